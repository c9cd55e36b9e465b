"""Logging in at an OIDC issuer: the device flow (RFC 8628), and renewal (RFC 6749, 6)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import httpx

from gatekeeper.client.tokens import Tokens, expiry_of
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, UnavailableError
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.wire.identity import LoginIssuer

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
ASK_SECONDS: Final = 10.0
SLOW_DOWN_SECONDS: Final = 5
LONGEST_WAIT_SECONDS: Final = 900


class LoginError(GatekeeperError):
    """The issuer did not log us in."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.AUTHENTICATION_ERROR, detail)


def device_login(issuer: LoginIssuer, show: Callable[[str, str], None]) -> Tokens:
    """Log in by confirming a code in a browser anywhere.

    `show(address, code)` tells the person where to go. Raises `LoginError` when the
    login was denied or took too long, `UnavailableError` when the issuer is away.
    """
    with httpx.Client(timeout=ASK_SECONDS, trust_env=False) as http:
        found = _document(http, issuer.issuer)
        begun = _post(
            http,
            found["device_authorization_endpoint"],
            {"client_id": issuer.client_id, "scope": " ".join(issuer.scopes)},
        )
        if "error" in begun:
            msg = f"the issuer does not begin a login: {begun['error']}"
            raise LoginError(msg)
        show(begun.get("verification_uri_complete", begun["verification_uri"]), begun["user_code"])
        answer = _wait(http, found["token_endpoint"], issuer.client_id, begun)
    return _tokens(answer, found["token_endpoint"], issuer.client_id)


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
    if "error" in answer:
        return None
    return _tokens(answer, tokens.token_endpoint, tokens.client_id)


def _wait(
    http: httpx.Client, endpoint: str, client_id: str, begun: dict[str, Any]
) -> dict[str, Any]:
    pause = float(begun.get("interval", SLOW_DOWN_SECONDS))
    deadline = time.monotonic() + min(float(begun["expires_in"]), LONGEST_WAIT_SECONDS)
    while time.monotonic() < deadline:
        time.sleep(pause)
        answer = _post(
            http,
            endpoint,
            {
                "grant_type": DEVICE_GRANT,
                "device_code": begun["device_code"],
                "client_id": client_id,
            },
        )
        match answer.get("error"):
            case None:
                return answer
            case "authorization_pending":
                continue
            case "slow_down":
                pause += SLOW_DOWN_SECONDS
            case "access_denied":
                msg = "the login was denied"
                raise LoginError(msg)
            case other:
                msg = f"the issuer ended the login: {other}"
                raise LoginError(msg)
    msg = "nobody confirmed the code in time; run gk login again"
    raise LoginError(msg)


def _tokens(answer: dict[str, Any], endpoint: str, client_id: str) -> Tokens:
    refresh = answer.get("refresh_token")
    return Tokens(
        identity=Secret(answer["id_token"]),
        refresh=Secret(refresh) if isinstance(refresh, str) else None,
        token_endpoint=endpoint,
        client_id=client_id,
        expires_at=expiry_of(answer["id_token"]),
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
