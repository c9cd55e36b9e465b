"""Tickets that are none: each has what a careless check would take."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from acceptance.faults.terminal_stacks import Caller, TerminalStack
from gatekeeper.platform.crypto.keys import TokenKey


def b64(data: bytes | dict[str, Any]) -> str:
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def with_hmac(head: dict[str, Any], body: str, key: bytes) -> str:
    signer = hmac.HMAC(key, hashes.SHA256())
    signer.update(f"{b64(head)}.{body}".encode())
    return f"{b64(head)}.{body}.{b64(signer.finalize())}"


def with_rsa(head: dict[str, Any], claims: dict[str, Any], key: RSAKey) -> str:
    return jwt.encode({"alg": "RS256"} | head, claims, key)


def tricks(stack: TerminalStack, ticket: str, published: dict[str, Any]) -> dict[str, str]:
    """Return tickets that are not one: each has what a careless check would take."""
    head, claims = unb64(ticket.split(".", maxsplit=1)[0]), unb64(ticket.split(".")[1])
    body, signature = ticket.split(".")[1:]
    public = RSAKey.import_key(published)
    pem = public.as_pem(private=False)
    own = RSAKey.import_key(rsa.generate_private_key(public_exponent=65_537, key_size=2_048))
    issuer = TokenKey.load_or_create(stack.folder / "keys" / "development-issuer.jwk")
    attackers = own.as_dict(private=False)
    more = claims | {"mode": "moderate"}
    return {
        "no algorithm": f"{b64(head | {'alg': 'none'})}.{body}.{signature}",
        "no algorithm, no signature": f"{b64(head | {'alg': 'None'})}.{body}.AA",
        "HS256 with the public key": with_hmac(head | {"alg": "HS256"}, body, pem),
        "HS256 with the published JWK": with_hmac(
            head | {"alg": "HS256"}, body, json.dumps(published).encode()
        ),
        "more rights under the old signature": f"{b64(head)}.{b64(more)}.{signature}",
        "own key under a known kid": with_rsa(head, claims, own),
        "own key under an unknown kid": with_rsa(head | {"kid": "mine"}, claims, own),
        "own key in the head": with_rsa(head | {"kid": "mine", "jwk": attackers}, claims, own),
        "own key at an address": with_rsa(
            head | {"kid": "mine", "jku": "http://127.0.0.1:1/jwks.json"}, claims, own
        ),
        "kid as a path": with_rsa(head | {"kid": "../../keys/tickets"}, claims, own),
        "the issuer of people's key": with_rsa(
            head | {"kid": issuer.key_id}, claims, issuer.private
        ),
        "somebody's access token": stack.token("dana").reveal(),
        "critical extension": f"{b64(head | {'crit': ['x']})}.{body}.{signature}",
        "cut signature": ticket[:-8],
        "signature of another": f"{b64(head)}.{body}.{signature[::-1]}",
        "oversize": ticket.split(".", maxsplit=1)[0]
        + "."
        + b64(claims | {"x": "y" * 6_000})
        + "."
        + signature,
        "a bomb of brackets": f"{b64(head)}.{b64(b'[' * 2_000)}.{signature}",
        "no JSON": f"{b64(b'{')}.{b64(b'{')}.AA",
    }


async def published_key(dana: Caller, ticket: str) -> dict[str, Any]:
    head = unb64(ticket.split(".", maxsplit=1)[0])
    found = (await dana.api._http.get("/.well-known/jwks.json")).json()["keys"]
    (key,) = [one for one in found if one["kid"] == head["kid"]]
    return dict(key)
