"""An OIDC issuer for development, for a short list of people.

The code flow with PKCE (RFC 7636) back to loopback (RFC 8252), and the device flow (RFC 8628).

Its tokens go through the same verification as any issuer's. Whoever reaches it can
be anyone on the list, so it is made for loopback alone and refuses anything else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from joserfc import jwt
from pydantic import BaseModel, ConfigDict

from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.oidc.keysource import is_safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.keys import TokenKey

PREFIX: Final = "/dev-issuer"
CLIENT_ID: Final = "gk"
AUDIENCE: Final = "gatekeeper"
TOKEN_SECONDS: Final = 3_600
CODE_SECONDS: Final = 300
LOGIN_CODE_SECONDS: Final = 60
"""A code goes from the browser to the client at once (RFC 6749 section 4.1.2)."""
POLL_SECONDS: Final = 1
MAX_WAITING: Final = 1_000
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_OWN_NAMES: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so no words (RFC 8628 section 6.1)."""


MAX_PARAMETER_CHARS: Final = 512
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""BASE64URL of a SHA-256 digest (RFC 7636 section 4.2)."""


class DevelopmentUser(BaseModel):
    """Somebody the issuer knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    email: str
    groups: tuple[str, ...] = ()


@dataclass(slots=True)
class _Waiting:
    """A device that waits for a person to confirm its code."""

    user_code: str
    expires: float
    user: DevelopmentUser | None = None
    denied: bool = False


class AuthorizationRequest(BaseModel):
    """What a client asks for on behalf of a person (RFC 6749 section 4.1.1, RFC 7636)."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_max_length=MAX_PARAMETER_CHARS)

    response_type: str = ""
    client_id: str = ""
    redirect_uri: str = ""
    state: str = ""
    nonce: str = ""
    code_challenge: str = ""
    code_challenge_method: str = ""


class TokenRequest(BaseModel):
    """What a client gives for tokens: a code, a device code or a refresh token."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_max_length=MAX_PARAMETER_CHARS)

    grant_type: str
    code: str = ""
    redirect_uri: str = ""
    code_verifier: str = ""
    device_code: str = ""
    refresh_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoginCode:
    """What a code stands for, until it is redeemed or too old."""

    asked: AuthorizationRequest
    user: DevelopmentUser
    expires: float


@dataclass(slots=True)
class _Issued:
    codes: dict[str, _LoginCode] = field(default_factory=dict)
    refresh: dict[str, DevelopmentUser] = field(default_factory=dict)
    waiting: dict[str, _Waiting] = field(default_factory=dict)


class DevelopmentIssuer:
    """Issues tokens to whoever confirms a code as one of its people."""

    def __init__(
        self,
        *,
        public_url: str,
        users: Sequence[DevelopmentUser],
        key: TokenKey,
        clock: Clock,
        random: Random,
    ) -> None:
        """Raises `InputError` anywhere but on loopback."""
        if not is_safe(public_url) or public_url.startswith("https:"):
            msg = "development_users: the development issuer runs on loopback only"
            raise InputError(msg)
        self.issuer = public_url + PREFIX
        self._users = {user.name: user for user in users}
        self._key = key
        self._clock = clock
        self._random = random
        self._issued = _Issued()

    def begin(self) -> dict[str, Any]:
        """Start a device flow (RFC 8628 section 3.2)."""
        self._forget_expired()
        if len(self._issued.waiting) >= MAX_WAITING:
            return {"error": "slow_down"}
        device_code = self._random.bytes(32).hex()
        letters = [_ALPHABET[b % len(_ALPHABET)] for b in self._random.bytes(8)]
        user_code = "".join(letters[:4]) + "-" + "".join(letters[4:])
        self._issued.waiting[device_code] = _Waiting(user_code, self._now() + CODE_SECONDS)
        page = f"{self.issuer}/device"
        return {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": CODE_SECONDS,
            "interval": POLL_SECONDS,
        }

    def confirm(self, user_code: str, name: str, *, approved: bool) -> bool:
        """Answer a waiting device for one of our people; False when there is none."""
        self._forget_expired()
        for waiting in self._issued.waiting.values():
            if waiting.user_code == user_code.upper().strip() and name in self._users:
                waiting.user = self._users[name] if approved else None
                waiting.denied = not approved
                return True
        return False

    def problem_with(self, asked: AuthorizationRequest) -> str | None:
        """Say why a request is not shown to anybody; None when it may be."""
        if asked.client_id != CLIENT_ID:
            return "client_id: not a client of this issuer"
        if not _is_loopback(asked.redirect_uri):
            return "redirect_uri: expected http://127.0.0.1:PORT/... or http://[::1]:PORT/..."
        if asked.response_type != "code":
            return "response_type: expected code"
        if asked.code_challenge_method != "S256" or not _CHALLENGE.fullmatch(asked.code_challenge):
            return "code_challenge: expected one of the method S256"
        return None

    def authorize(self, asked: AuthorizationRequest, name: str, *, approved: bool) -> str:
        """Answer a request that has no problem, for one of our people; return the way back."""
        answer = {"state": asked.state, "iss": self.issuer}
        user = self._users.get(name)
        if user is None or not approved:
            answer["error"] = "access_denied"
        else:
            self._forget_expired()
            if len(self._issued.codes) >= MAX_WAITING:
                answer["error"] = "temporarily_unavailable"
            else:
                answer["code"] = self._random.bytes(32).hex()
                self._issued.codes[answer["code"]] = _LoginCode(
                    asked=asked, user=user, expires=self._now() + LOGIN_CODE_SECONDS
                )
        return f"{asked.redirect_uri}?{urlencode(answer)}"

    def redeem_code(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        """Give tokens for a code, which is used up by the first try, whoever tries."""
        self._forget_expired()
        found = self._issued.codes.pop(code, None)
        if (
            found is None
            or found.asked.redirect_uri != redirect_uri
            or not hmac.compare_digest(_challenge(verifier), found.asked.code_challenge.encode())
        ):
            return {"error": "invalid_grant"}
        return self._tokens(found.user, found.asked.nonce)

    def redeem(self, device_code: str) -> dict[str, Any]:
        """Answer a device that asks for its token (RFC 8628 section 3.5)."""
        self._forget_expired()
        waiting = self._issued.waiting.get(device_code)
        if waiting is None:
            return {"error": "expired_token"}
        if waiting.denied:
            return {"error": "access_denied"}
        if waiting.user is None:
            return {"error": "authorization_pending"}
        del self._issued.waiting[device_code]
        return self._tokens(waiting.user)

    def refresh(self, refresh_token: str) -> dict[str, Any]:
        """Give new tokens for a refresh token, which is used up by it."""
        user = self._issued.refresh.pop(refresh_token, None)
        return {"error": "invalid_grant"} if user is None else self._tokens(user)

    def people(self) -> Sequence[DevelopmentUser]:
        return tuple(self._users.values())

    def _tokens(self, user: DevelopmentUser, nonce: str = "") -> dict[str, Any]:
        now = int(self._now())
        claims = {
            "iss": self.issuer,
            "sub": user.name,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "email": user.email,
            "email_verified": True,
            "groups": list(user.groups),
        }
        if nonce:
            claims["nonce"] = nonce
        header = {"alg": "RS256", "kid": self._key.key_id}
        refresh_token = self._random.bytes(32).hex()
        self._issued.refresh[refresh_token] = user
        return {
            "id_token": jwt.encode(header, claims, self._key.private),
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "refresh_token": refresh_token,
        }

    def _forget_expired(self) -> None:
        now = self._now()
        for kept in (self._issued.waiting, self._issued.codes):
            for code in [code for code, one in kept.items() if one.expires < now]:
                del kept[code]

    def _now(self) -> float:
        return self._clock.now().timestamp()


def development_routes(  # noqa: C901  # one small route after the other
    issuer: DevelopmentIssuer, key: TokenKey
) -> APIRouter:
    """Make the issuer's routes; none of them is part of the product's API."""
    router = APIRouter(
        prefix=PREFIX, include_in_schema=False, dependencies=[Depends(_from_here_alone)]
    )

    @router.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return {
            "issuer": issuer.issuer,
            "jwks_uri": f"{issuer.issuer}/jwks.json",
            "token_endpoint": f"{issuer.issuer}/token",
            "authorization_endpoint": f"{issuer.issuer}/authorize",
            "device_authorization_endpoint": f"{issuer.issuer}/device_authorization",
            "grant_types_supported": ["authorization_code", DEVICE_GRANT, "refresh_token"],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    @router.get("/jwks.json")
    async def keys() -> Any:  # noqa: ANN401  # JSON
        return key.jwks()

    @router.post("/device_authorization")
    async def device_authorization(client_id: Annotated[str, Form()]) -> JSONResponse:
        if client_id != CLIENT_ID:
            return _oauth({"error": "invalid_client"})
        return _oauth(issuer.begin())

    @router.post("/token")
    async def token(asked: Annotated[TokenRequest, Form()]) -> JSONResponse:
        await asyncio.sleep(0)
        match asked.grant_type:
            case "authorization_code":
                return _oauth(
                    issuer.redeem_code(asked.code, asked.redirect_uri, asked.code_verifier)
                )
            case "refresh_token":
                return _oauth(issuer.refresh(asked.refresh_token))
            case grant if grant == DEVICE_GRANT:
                return _oauth(issuer.redeem(asked.device_code))
        return _oauth({"error": "unsupported_grant_type"})

    @router.get("/authorize")
    async def ask(asked: Annotated[AuthorizationRequest, Query()]) -> HTMLResponse:
        if (problem := issuer.problem_with(asked)) is not None:
            return _html(f"<p>{html.escape(problem)}</p>", status=400)
        return _authorize_page(issuer.people(), asked)

    @router.post("/authorize")
    async def answer(
        asked: Annotated[AuthorizationRequest, Query()],
        user: Annotated[str, Form()] = "",
        action: Annotated[str, Form()] = "approve",
    ) -> Response:
        # A client we do not know is never redirected to (RFC 6749 section 4.1.2.1).
        if (problem := issuer.problem_with(asked)) is not None:
            return _html(f"<p>{html.escape(problem)}</p>", status=400)
        back = issuer.authorize(asked, user, approved=action == "approve")
        return RedirectResponse(back, status_code=303, headers={"Cache-Control": "no-store"})

    @router.get("/device")
    async def page(user_code: str = "") -> HTMLResponse:
        return _page(issuer.people(), user_code)

    @router.post("/device")
    async def confirm(
        user_code: Annotated[str, Form()],
        user: Annotated[str, Form()],
        action: Annotated[str, Form()] = "approve",
    ) -> HTMLResponse:
        if issuer.confirm(user_code, user, approved=action == "approve"):
            return _html("<p>Done. You can close this page and go back to the terminal.</p>")
        return _html("<p>This code is not known, or has expired.</p>", status=400)

    return router


def _from_here_alone(request: Request) -> None:
    """Refuse what a page of somebody else sends with the browser of whoever looks at it.

    Such a page can have a name of its own mean this machine (DNS rebinding), and then read
    what is answered; it cannot have the browser name this machine's address, nor keep it from
    saying that another site asks (https://www.w3.org/TR/fetch-metadata/).
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    asked_by = request.headers.get("sec-fetch-site", "none")
    changes = request.method != "GET"
    if host not in _OWN_NAMES or (changes and asked_by not in {"none", "same-origin"}):
        raise HTTPException(404, "the development issuer answers this machine's own pages alone")


def _oauth(answer: dict[str, Any]) -> JSONResponse:
    return JSONResponse(
        answer,
        status_code=400 if "error" in answer else 200,
        headers={"Cache-Control": "no-store"},
    )


def _is_loopback(redirect_uri: str) -> bool:
    """Any port of the loopback addresses, by number and not by name (RFC 8252 section 7.3)."""
    try:
        parts = urlsplit(redirect_uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username)
    return parts.scheme == "http" and host in {"127.0.0.1", "::1"} and port is not None and plain


def _challenge(verifier: str) -> bytes:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _page(people: Sequence[DevelopmentUser], user_code: str) -> HTMLResponse:
    code = html.escape(user_code, quote=True)
    return _html(
        '<h1>Gatekeeper development login</h1><form method="post">'
        f'<p><label>Code <input name="user_code" value="{code}"></label></p>'
        f"{_buttons(people)}</form>"
    )


def _authorize_page(people: Sequence[DevelopmentUser], asked: AuthorizationRequest) -> HTMLResponse:
    back = urlsplit(asked.redirect_uri)
    return _html(
        # The form goes to this address, which holds the request.
        f'<h1>Gatekeeper development login</h1><form method="post">{_buttons(people)}'
        '<p><button name="action" value="deny">Not now</button></p></form>',
        # A browser holds form-action against the redirect that follows as well.
        form_action=f"'self' {back.scheme}://{back.netloc}",
    )


def _buttons(people: Sequence[DevelopmentUser]) -> str:
    return "".join(
        f'<button name="user" value="{html.escape(p.name, quote=True)}">I am'
        f" {html.escape(p.name)} ({html.escape(', '.join(p.groups))})</button> "
        for p in people
    )


def _html(body: str, status: int = 200, form_action: str = "'self'") -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Gatekeeper</title>{body}',
        status_code=status,
        headers={
            "Content-Security-Policy": f"default-src 'none'; form-action {form_action}; "
            "frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
        },
    )
