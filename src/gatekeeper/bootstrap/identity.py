"""Who may call: the issuers, the development issuer among them, behind one verifier."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.http.problems import OF_CALLERS, RefusedError, problems
from gatekeeper.platform.oidc import development
from gatekeeper.platform.oidc.development import DevelopmentIssuer, development_routes
from gatekeeper.platform.oidc.keysource import RemoteKeys, StaticKeys
from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier
from gatekeeper.wire.identity import AuthConfig, LoginIssuer
from gatekeeper.wire.sessions import WhoAmI

if TYPE_CHECKING:
    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.oidc.keysource import KeySource

BEARER: Final = HTTPBearer(
    scheme_name="bearer", description="An identity token of a known issuer.", auto_error=False
)

Authenticate = Callable[..., Awaitable[Principal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The dependency that authenticates a request, and the routes around it."""

    authenticate: Authenticate
    routes: tuple[APIRouter, ...]


def make_identity(settings: ControlPlaneSettings, *, clock: Clock, random: Random) -> Identity:
    issuers: dict[str, tuple[IssuerSettings, KeySource]] = {
        issuer.issuer: (issuer, RemoteKeys(issuer.issuer, issuer.jwks_uri))
        for issuer in settings.issuers
    }
    routers = []
    if settings.development_users:
        key = TokenKey.load_or_create(settings.key_folder / "development-issuer.jwk")
        issuer = DevelopmentIssuer(
            public_url=settings.public_url,
            users=settings.development_users,
            key=key,
            clock=clock,
            random=random,
        )
        known = IssuerSettings(
            issuer=issuer.issuer,
            audience=development.AUDIENCE,
            algorithms=("RS256",),
            client_id=development.CLIENT_ID,
        )
        issuers[issuer.issuer] = (known, StaticKeys(key.public()))
        routers.append(development_routes(issuer, key))
    authenticate = _authenticator(TokenVerifier(issuers, clock=clock))
    public = [found for found, _keys in issuers.values()]
    return Identity(
        authenticate=authenticate, routes=(*routers, _identity_routes(public, authenticate))
    )


def _authenticator(verifier: TokenVerifier) -> Authenticate:
    async def authenticate(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    ) -> Principal:
        if given is None:
            raise RefusedError(
                Refusal(
                    code=ErrorCode.AUTHENTICATION_ERROR,
                    detail="this needs a bearer token",
                    hint="gk login gets one",
                )
            )
        found = await verifier.verify(given.credentials.strip())
        if isinstance(found, Refusal):
            raise RefusedError(found)
        return found

    return authenticate


def _identity_routes(issuers: list[IssuerSettings], authenticate: Authenticate) -> APIRouter:
    router = APIRouter()
    caller = Depends(authenticate)

    @router.get("/auth/config")
    async def auth_config() -> AuthConfig:
        """Say where to log in."""
        return AuthConfig(
            issuers=tuple(
                LoginIssuer(issuer=issuer.issuer, client_id=issuer.client_id)
                for issuer in issuers
                if issuer.client_id is not None
            )
        )

    @router.get("/whoami", responses=problems(*OF_CALLERS))
    async def who_am_i(principal: Principal = caller) -> WhoAmI:
        """Say who the token is about."""
        return WhoAmI(
            issuer=principal.issuer,
            subject=principal.subject,
            kind=principal.kind.value,
            email=principal.email,
            groups=tuple(sorted(principal.groups)),
        )

    return router
