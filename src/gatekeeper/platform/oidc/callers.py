"""Who calls: a bearer token verified at each request, and the routes that speak of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.platform.http.context import Authenticate
from gatekeeper.platform.http.problems import OF_CALLERS, RefusedError, granted, problems
from gatekeeper.platform.http.rates import CallRates
from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier
from gatekeeper.wire.identity import AuthConfig, LoginIssuer
from gatekeeper.wire.sessions import WhoAmI

BEARER: Final = HTTPBearer(
    scheme_name="bearer", description="An identity token of a known issuer.", auto_error=False
)


def authenticator(
    verifier: TokenVerifier, rates: CallRates, per_minute: Callable[[], int], *, bucket: str
) -> Authenticate:
    """Make the dependency that verifies a caller's token and counts the call.

    `bucket` names what is counted together, at most `per_minute()` of it for each caller.
    """

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
        found = granted(await verifier.verify(given.credentials.strip()))
        if (refusal := rates.refuse(f"{bucket} {found.key}", per_minute())) is not None:
            raise RefusedError(refusal)
        return found

    return authenticate


def identity_routes(issuers: Iterable[IssuerSettings], authenticate: Authenticate) -> APIRouter:
    """Make the routes that say where to log in, and as whom."""
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
