"""Tokens of two issuers at one moment: good ones, and those that must not be believed."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import Key, OctKey, RSAKey

from gatekeeper.platform.crypto.keys import TokenKey

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ISSUER, OTHER = "https://issuer.example", "https://other.example"
SECONDS = int(NOW.timestamp())
KEY, OTHER_KEY = TokenKey(RSAKey.generate_key(2048)), TokenKey(RSAKey.generate_key(2048))


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


def claims(**changes: Any) -> dict[str, Any]:
    seconds = int(NOW.timestamp())
    made = {
        "iss": ISSUER, "aud": "gatekeeper", "sub": "dana", "iat": seconds, "exp": seconds + 600,
        "email": "d@x", "groups": ["eng", 7],
    } | changes  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


def token(key: TokenKey = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(
        {"alg": "RS256", "kid": key.key_id, **(header or {})}, claims(**changes), key.private
    )


def forged(header: dict[str, Any], key: Key | None = None) -> str:
    parts = [json.dumps(part).encode() for part in (header, claims())]
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode()
    return (
        body
        + "."
        + (base64.urlsafe_b64encode(b"x" * 32).rstrip(b"=").decode() if key is None else "")
    )


def hs256_with_the_public_key() -> str:
    signed, _, _ = forged({"alg": "HS256", "kid": KEY.key_id}).rpartition(".")
    mac = hmac.digest(KEY.private.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


BAD: Final[list[tuple[Callable[[], str], str]]] = [
    (lambda: "", "no JSON Web Token"),
    (lambda: "a.b", "no JSON Web Token"),
    (lambda: "a.b.c", "no JSON Web Token"),
    (lambda: "é.b.c", "no JSON Web Token"),
    (lambda: token() + ".", "no JSON Web Token"),
    (lambda: "x" * 20_000, "no JSON Web Token"),
    (lambda: token(groups=["g" * 20_000]), "no JSON Web Token"),
    (lambda: forged({"alg": "none"}, OctKey.generate_key()), "algorithm"),
    (lambda: forged({"alg": "none", "kid": KEY.key_id}), "algorithm"),
    (hs256_with_the_public_key, "algorithm"),
    (lambda: forged({"alg": "RS256", "kid": 7}), "algorithm or key"),
    (lambda: token(header={"kid": "unknown"}), "key"),
    (lambda: token(OTHER_KEY), "key"),
    (lambda: token(OTHER_KEY, header={"kid": KEY.key_id}), "signature"),
    (
        lambda: token(
            OTHER_KEY,
            header={"kid": KEY.key_id, "jwk": OTHER_KEY.private.as_dict(private=False)},
        ),
        "signature",
    ),
    (lambda: token()[:-4] + "AAAA", "signature"),
    (lambda: token(iss="https://evil.example"), "issuer"),
    (lambda: token(iss=OTHER), "key"),
    (lambda: token(iss=None), "issuer"),
    (lambda: token(iss=["x"]), "issuer"),
    (lambda: token(aud="other"), "audience"),
    (lambda: token(aud=["other"]), "audience"),
    (lambda: token(aud=None), "audience"),
    (lambda: token(exp=SECONDS - 61), "expired"),
    (lambda: token(exp=None), "expired"),
    (lambda: token(exp="soon"), "expired"),
    (lambda: token(iat=SECONDS + 61), "future"),
    (lambda: token(iat=None), "future"),
    (lambda: token(nbf=SECONDS + 61), "not valid yet"),
    (lambda: token(sub=None), "subject"),
    (lambda: token(sub=""), "subject"),
    (lambda: token(sub="x" * 256), "subject"),
    (lambda: token(sub=7), "subject"),
    (lambda: token(sub="a\x00b"), "subject"),
    (lambda: token(exp=True), "expired"),
    (lambda: token(exp=1e300), "expired"),
    (lambda: token(iat=-1e300), "future"),
]
"""Each with a word of why it is refused."""
