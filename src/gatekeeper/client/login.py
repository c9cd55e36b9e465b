"""Logging in at an OIDC issuer, and renewal (RFC 6749 section 6).

In a browser on this machine: the code flow with PKCE (RFC 7636) and a redirect to
loopback (RFC 8252). In a browser anywhere: the device flow (RFC 8628).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

import httpx

from gatekeeper.client.loopback import Loopback
from gatekeeper.client.tokens import Tokens, claims_of
from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, UnavailableError
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatekeeper.wire.identity import LoginIssuer

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
ASK_SECONDS: Final = 10.0
SLOW_DOWN_SECONDS: Final = 5
LONGEST_WAIT_SECONDS: Final = 900.0
VERIFIER_BYTES: Final = 32
"""43 characters, the entropy that RFC 7636 section 7.1 asks for."""


class LoginError(GatekeeperError):
    """The issuer did not log us in."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.AUTHENTICATION_ERROR, detail)


class Issuer:
    """An issuer's endpoints. Every method raises `UnavailableError` when it is away."""

    def __init__(self, known: LoginIssuer) -> None:
        self._known = known
        self._http = httpx.Client(timeout=ASK_SECONDS, trust_env=False)
        self._document: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._document = _document(self._http, self._known.issuer)
        except BaseException:
            self._http.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def offers_browser(self) -> bool:
        return "authorization_endpoint" in self._document

    @property
    def offers_device(self) -> bool:
        return "device_authorization_endpoint" in self._document

    def browser_login(
        self, show: Callable[[str], None], *, patience: float = LONGEST_WAIT_SECONDS
    ) -> Tokens:
        """Log in in a browser on this machine; `show(address)` opens it.

        Raises `LoginError` when the login was denied or took longer than `patience` seconds.
        """
        verifier = secrets.token_urlsafe(VERIFIER_BYTES)
        state, nonce = secrets.token_urlsafe(), secrets.token_urlsafe()
        with Loopback(lambda given: self._is_ours(given, state)) as loopback:
            query = {
                "response_type": "code",
                "client_id": self._known.client_id,
                "redirect_uri": loopback.address,
                "scope": " ".join(self._known.scopes),
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge_of(verifier),
                "code_challenge_method": "S256",
            }
            show(f"{self._endpoint('authorization_endpoint')}?{urlencode(query)}")
            given = loopback.wait(patience)
        if given is None:
            msg = "nobody finished the login in the browser in time; run gk login again"
            raise LoginError(msg)
        if "code" not in given:
            _refuse(given.get("error", "no code"))
        answer = self._post(
            "token_endpoint",
            {
                "grant_type": "authorization_code",
                "code": given["code"],
                "redirect_uri": loopback.address,
                "code_verifier": verifier,
                "client_id": self._known.client_id,
            },
        )
        if "error" in answer:
            _refuse(answer["error"])
        return self._tokens(answer, nonce)

    def device_login(self, show: Callable[[str, str], None]) -> Tokens:
        """Log in by confirming a code in a browser anywhere.

        `show(address, code)` tells the person where to go. Raises `LoginError` when the
        login was denied or took too long.
        """
        begun = self._post(
            "device_authorization_endpoint",
            {"client_id": self._known.client_id, "scope": " ".join(self._known.scopes)},
        )
        if "error" in begun:
            msg = f"the issuer does not begin a login: {begun['error']}"
            raise LoginError(msg)
        show(begun.get("verification_uri_complete", begun["verification_uri"]), begun["user_code"])
        return self._tokens(self._wait(begun), None)

    def _is_ours(self, given: Mapping[str, str], state: str) -> bool:
        """Whether an answer belongs to our question: our state, and our issuer (RFC 9207)."""
        return hmac.compare_digest(given.get("state", "").encode(), state.encode()) and (
            given.get("iss", self._known.issuer) == self._known.issuer
        )

    def _wait(self, begun: dict[str, Any]) -> dict[str, Any]:
        pause = float(begun.get("interval", SLOW_DOWN_SECONDS))
        deadline = time.monotonic() + min(float(begun["expires_in"]), LONGEST_WAIT_SECONDS)
        form = {
            "grant_type": DEVICE_GRANT,
            "device_code": begun["device_code"],
            "client_id": self._known.client_id,
        }
        while time.monotonic() < deadline:
            time.sleep(pause)
            answer = self._post("token_endpoint", form)
            match answer.get("error"):
                case None:
                    return answer
                case "authorization_pending":
                    continue
                case "slow_down":
                    pause += SLOW_DOWN_SECONDS
                case other:
                    _refuse(other)
        msg = "nobody confirmed the code in time; run gk login again"
        raise LoginError(msg)

    def _tokens(self, answer: dict[str, Any], nonce: str | None) -> Tokens:
        identity = answer.get("id_token")
        if not isinstance(identity, str):
            msg = "the issuer gave no identity token; is the client allowed the scope openid?"
            raise LoginError(msg)
        # The server verifies the token; that it answers our own question only we can know.
        if nonce is not None and claims_of(identity).get("nonce") != nonce:
            msg = "the issuer's token is not for this login"
            raise LoginError(msg)
        return _tokens(answer, self._endpoint("token_endpoint"), self._known.client_id)

    def _post(self, endpoint: str, form: dict[str, str]) -> dict[str, Any]:
        return _post(self._http, self._endpoint(endpoint), form)

    def _endpoint(self, name: str) -> str:
        found = self._document.get(name)
        if not isinstance(found, str):
            msg = f"the issuer has no {name}"
            raise LoginError(msg)
        return found


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return base64url.encode(hashlib.sha256(verifier.encode()).digest())


def renew(tokens: Tokens) -> Tokens | None:
    """Get fresh tokens for a refresh token; None when a new login is needed."""
    if tokens.refresh is None:
        return None
    with httpx.Client(timeout=ASK_SECONDS, trust_env=False) as http:
        answer = _post(
            http,
            tokens.token_endpoint,
            {
                "grant_type": "refresh_token",
                "refresh_token": tokens.refresh.reveal(),
                "client_id": tokens.client_id,
            },
        )
    if "id_token" not in answer:
        return None
    # An issuer that does not rotate refresh tokens leaves ours valid (RFC 6749 section 6).
    answer.setdefault("refresh_token", tokens.refresh.reveal())
    return _tokens(answer, tokens.token_endpoint, tokens.client_id)


def _refuse(error: object) -> None:
    if error == "access_denied":
        msg = "the login was denied"
        raise LoginError(msg)
    msg = f"the issuer ended the login: {error}"
    raise LoginError(msg)


def _tokens(answer: dict[str, Any], endpoint: str, client_id: str) -> Tokens:
    refresh = answer.get("refresh_token")
    return Tokens(
        identity=Secret(answer["id_token"]),
        refresh=Secret(refresh) if isinstance(refresh, str) else None,
        token_endpoint=endpoint,
        client_id=client_id,
        expires_at=float(claims_of(answer["id_token"])["exp"]),
    )


def _document(http: httpx.Client, issuer: str) -> dict[str, Any]:
    """Read the issuer's discovery document (OpenID Connect Discovery 1.0)."""
    try:
        response = http.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        document: dict[str, Any] = response.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        msg = f"the issuer {issuer} does not answer"
        raise UnavailableError(msg) from error
    if document.get("issuer") != issuer:
        msg = f"{issuer} says it is another issuer"
        raise LoginError(msg)
    return document


def _post(http: httpx.Client, endpoint: str, form: dict[str, str]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = http.post(endpoint, data=form).json()
    except (httpx.HTTPError, ValueError) as error:
        msg = "the issuer does not answer"
        raise UnavailableError(msg) from error
    return answer
