"""The code flow with PKCE, for a browser (OpenID Connect Core 1.0 section 3.1, RFC 7636).

Where the issuer's client is a confidential one, its secret goes with the code, to the token
endpoint alone, as RFC 6749 section 2.3.1 has it. Redirects are not followed there.

State, nonce and verifier are made from one secret that stands in the browser's cookie: nothing
is kept here between the two requests, and a way back without that cookie leads nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlencode

import httpx
import structlog

from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import ErrorCode, Refusal, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.oidc.keysource import is_safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier

log = structlog.get_logger("gatekeeper.console")

SCOPES: Final = "openid email"
ASK_SECONDS: Final = 10.0
MAX_DOCUMENT_BYTES: Final = 262_144
FRESH_SECONDS: Final = 3_600.0
SECRET_BYTES: Final = 32
MAX_CODE_CHARS: Final = 4_096
NOT_OUR_CLIENT: Final = ("invalid_client", "unauthorized_client")
"""What an issuer says that wants another secret, or none, or one at all (RFC 6749 section 5.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One try of a browser to sign in: what only it and we know, made from one secret."""

    secret: Secret

    @property
    def state(self) -> str:
        return self._derived("state")

    @property
    def nonce(self) -> str:
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        return base64url.encode(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, use: str) -> str:
        key = self.secret.reveal().encode()
        return base64url.encode(hmac.digest(key, f"gatekeeper console {use}".encode(), "sha256"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What a browser came back with from its issuer."""

    code: str
    state: str
    issuer: str | None
    """RFC 9207, where the issuer says it."""
    error: str


class CodeFlow:
    """Sends browsers to issuers, and turns what they come back with into verified claims."""

    def __init__(
        self,
        issuers: Mapping[str, IssuerSettings],
        *,
        verifier: TokenVerifier,
        redirect_uri: str,
        random: Random,
    ) -> None:
        self._issuers = issuers
        self._verifier = verifier
        self._redirect_uri = redirect_uri
        self._random = random
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    def new_way(self) -> Way:
        return Way(secret=Secret(base64url.encode(self._random.bytes(SECRET_BYTES))))

    async def leave(self, issuer: str, way: Way) -> str:
        """Return where to send the browser. Raises `UnavailableError`."""
        endpoint = (await self._document(issuer))["authorization_endpoint"]
        asked = {
            "response_type": "code",
            "client_id": self._issuers[issuer].client_id,
            "redirect_uri": self._redirect_uri,
            "scope": SCOPES,
            "state": way.state,
            "nonce": way.nonce,
            "code_challenge": way.challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    async def come_back(self, issuer: str, way: Way, came: Came) -> dict[str, Any] | Refusal:
        """Return the claims of whoever signed in. Raises `UnavailableError`."""
        if not hmac.compare_digest(way.state.encode(), came.state.encode()):
            return _refused("it is not the answer to what this browser asked")
        if came.issuer is not None and came.issuer != issuer:
            return _refused("another issuer answered (RFC 9207)")
        if came.error or not 0 < len(came.code) <= MAX_CODE_CHARS:
            return _refused("the issuer did not let you in")
        token = await self._redeem(issuer, came.code, way.verifier)
        if isinstance(token, Refusal):
            return token
        claims = await self._verifier.claims(token)
        if isinstance(claims, Refusal):
            return claims
        said = claims.get("nonce")
        if claims["iss"] != issuer or said is None or said != way.nonce:
            return _refused("its token is not for this try to sign in")
        return claims

    async def _redeem(self, issuer: str, code: str, verifier: str) -> str | Refusal:
        document = await self._document(issuer)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        named, auth = _as_client(self._issuers[issuer], document)
        answer = await _ask(document["token_endpoint"], form | named, auth)
        token = answer.get("id_token")
        if isinstance(token, str):
            return token
        if answer.get("error") in NOT_OUR_CLIENT:
            log.warning("the issuer does not take our client", issuer=issuer)
            return _refused("the issuer does not take Gatekeeper's client_id and client_secret")
        return _refused("the issuer does not take its own code")

    async def _document(self, issuer: str) -> dict[str, Any]:
        """Return an issuer's discovery document, not older than an hour."""
        at, document = self._known.get(issuer, (float("-inf"), {}))
        now = time.monotonic()
        if now - at > FRESH_SECONDS:
            document = await _ask(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            ends = [document.get(f"{name}_endpoint") for name in ("authorization", "token")]
            if document.get("issuer") != issuer or not all(
                isinstance(end, str) and is_safe(end) for end in ends
            ):
                msg = "the issuer's discovery document cannot be used"
                raise UnavailableError(msg)
            self._known[issuer] = (now, document)
        return document


def _as_client(
    settings: IssuerSettings, document: Mapping[str, Any]
) -> tuple[dict[str, str], httpx.BasicAuth | None]:
    """Say which client we are: in the form, or by HTTP Basic, which is every issuer's default."""
    client_id, secret = settings.client_id or "", settings.client_secret
    if secret is None:
        return {"client_id": client_id}, None
    ways = document.get("token_endpoint_auth_methods_supported")
    known = ways if isinstance(ways, list) else []
    if "client_secret_post" in known and "client_secret_basic" not in known:
        return {"client_id": client_id, "client_secret": secret.reveal()}, None
    return {}, httpx.BasicAuth(quote_plus(client_id), quote_plus(secret.reveal()))


async def _ask(
    address: str, form: dict[str, str] | None = None, auth: httpx.BasicAuth | None = None
) -> dict[str, Any]:
    """Return a JSON object, of an answer of whatever status. Raises `UnavailableError`."""
    method, body = "GET" if form is None else "POST", bytearray()
    try:
        async with (
            httpx.AsyncClient(timeout=ASK_SECONDS, trust_env=False) as client,
            client.stream(method, address, data=form, auth=auth) as response,
        ):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    break
        found = json.loads(body)
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        log.warning("the issuer does not answer", error=type(error).__name__)
        msg = "the issuer does not answer"
        raise UnavailableError(msg) from error
    return found if isinstance(found, dict) else {}


def _refused(why: str) -> Refusal:
    return Refusal(
        code=ErrorCode.AUTHENTICATION_ERROR,
        detail=f"you are not signed in: {why}",
        hint="sign in again",
    )
