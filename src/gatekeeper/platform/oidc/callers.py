"""Who calls: a bearer token verified at each request, or a page with its session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
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


PageCaller = Callable[[Request], Awaitable[Principal | None]]
"""Finds whose page made a call; None where no page of ours did, or its session is over."""


async def no_pages(_request: Request) -> Principal | None:
    """Know no pages: every caller has a token."""
    return None


def authenticator(
    verifier: TokenVerifier,
    rates: CallRates,
    per_minute: Callable[[], int],
    *,
    bucket: str,
    of_page: PageCaller = no_pages,
) -> Authenticate:
    """Make the dependency that verifies a caller's token, or a page's session, and counts the call.

    `bucket` names what is counted together, at most `per_minute()` of it for each caller.
    """

    async def authenticate(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    ) -> Principal:
        if given is not None:
            found = granted(await verifier.verify(given.credentials.strip()))
        elif (of_session := await of_page(request)) is not None:
            found = of_session
        else:
            raise RefusedError(
                Refusal(
                    code=ErrorCode.AUTHENTICATION_ERROR,
                    detail="this needs a bearer token",
                    hint="gk login gets one",
                )
            )
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
                if issuer.client_id is not None and issuer.client_secret is None
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
