"""An OIDC issuer for development: the device flow (RFC 8628) for a short list of people.

Its tokens go through the same verification as any issuer's. Whoever reaches it can
be anyone on the list, so it is made for loopback alone and refuses anything else.
"""

from __future__ import annotations

import asyncio
import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, JSONResponse
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
POLL_SECONDS: Final = 1
MAX_WAITING: Final = 1_000
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so no words (RFC 8628 section 6.1)."""


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


@dataclass(slots=True)
class _Issued:
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

    def _tokens(self, user: DevelopmentUser) -> dict[str, Any]:
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
        waiting = self._issued.waiting
        for code in [code for code, one in waiting.items() if one.expires < now]:
            del waiting[code]

    def _now(self) -> float:
        return self._clock.now().timestamp()


def development_routes(  # noqa: C901  # one small route after the other
    issuer: DevelopmentIssuer, key: TokenKey
) -> APIRouter:
    """Make the issuer's routes; none of them is part of the product's API."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return {
            "issuer": issuer.issuer,
            "jwks_uri": f"{issuer.issuer}/jwks.json",
            "token_endpoint": f"{issuer.issuer}/token",
            "device_authorization_endpoint": f"{issuer.issuer}/device_authorization",
            "grant_types_supported": [DEVICE_GRANT, "refresh_token"],
            "response_types_supported": [],
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
    async def token(
        grant_type: Annotated[str, Form()],
        device_code: Annotated[str, Form()] = "",
        refresh_token: Annotated[str, Form()] = "",
    ) -> JSONResponse:
        await asyncio.sleep(0)
        if grant_type == DEVICE_GRANT:
            return _oauth(issuer.redeem(device_code))
        if grant_type == "refresh_token":
            return _oauth(issuer.refresh(refresh_token))
        return _oauth({"error": "unsupported_grant_type"})

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


def _oauth(answer: dict[str, Any]) -> JSONResponse:
    return JSONResponse(
        answer,
        status_code=400 if "error" in answer else 200,
        headers={"Cache-Control": "no-store"},
    )


def _page(people: Sequence[DevelopmentUser], user_code: str) -> HTMLResponse:
    buttons = "".join(
        f'<button name="user" value="{html.escape(p.name, quote=True)}">I am'
        f" {html.escape(p.name)} ({html.escape(', '.join(p.groups))})</button> "
        for p in people
    )
    code = html.escape(user_code, quote=True)
    return _html(
        '<h1>Gatekeeper development login</h1><form method="post">'
        f'<p><label>Code <input name="user_code" value="{code}"></label></p>{buttons}</form>'
    )


def _html(body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Gatekeeper</title>{body}',
        status_code=status,
        headers={
            "Content-Security-Policy": "default-src 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        },
    )
