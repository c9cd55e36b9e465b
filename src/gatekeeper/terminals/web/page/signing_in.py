"""Signing in and out: the code flow, a token that a page brings, and the end of a session."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.security.utils import get_authorization_scheme_param

from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.console import cookies
from gatekeeper.platform.console.sessions import ABSOLUTE, ConsoleSessions
from gatekeeper.platform.console.signing_in import Came, CodeFlow, Way
from gatekeeper.platform.http import context
from gatekeeper.platform.http.problems import STATUS, RefusedError
from gatekeeper.platform.http.rates import CallRates
from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier
from gatekeeper.terminals.web.page.answers import Answers, redirect

FAILURES_PER_MINUTE: Final = 20
"""Of one address. Behind a proxy all share its address, unless uvicorn is told to believe it."""
SIGN_IN_SECONDS: Final = 600
"""How long somebody may take at their issuer."""
HOME: Final = "/console"
BACK: Final = re.compile(
    r"/console(/[A-Za-z0-9_/-]{0,100})?(\?[A-Za-z0-9_=&%.-]{0,200})?", re.ASCII
)
MAX_TOKEN_CHARS: Final = 16_384

Text = Annotated[str, Query(max_length=4_096)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What signing in needs. `issuers` are those a browser may be sent to, or bring tokens of."""

    issuers: Mapping[str, IssuerSettings]
    sessions: ConsoleSessions
    flow: CodeFlow
    verifier: TokenVerifier
    origin: str
    sign_in_origins: frozenset[str]
    """Of pages elsewhere that may post a token here: a front end of Firebase, for example."""
    failures: CallRates

    def ways(self) -> list[str]:
        """Name the issuers that a browser can be sent to."""
        return [one.issuer for one in self.issuers.values() if one.client_id is not None]

    async def signed_in(self, request: Request) -> Principal | None:
        """Return who looks at a page. For what only shows: a cookie alone is enough for that."""
        secret = cookies.session_of(request)
        return None if secret is None else await self.sessions.find(secret)

    def too_many(self, request: Request) -> Refusal | None:
        wait = self.failures.wait(_address(request), FAILURES_PER_MINUTE)
        if not wait:
            return None
        return Refusal(
            code=ErrorCode.RATE_LIMIT_EXCEEDED,
            detail="too many tries to sign in failed",
            retry_after=wait,
        )

    def failed(self, request: Request) -> None:
        self.failures.take(_address(request), FAILURES_PER_MINUTE)


def sign_in_routes(desk: Desk, answers: Answers) -> APIRouter:
    """Make the routes of the code flow; none is part of the API."""
    router = APIRouter(prefix=HOME, include_in_schema=False)

    def refused(refusal: Refusal, back: str) -> Response:
        status = STATUS[refusal.code]
        return answers.page("refused.html", status=status, why=refusal.detail, back=back)

    @router.get("/sign-in")
    async def leave(request: Request, issuer: Text = "", back: Text = HOME) -> Response:
        """Send the browser to its issuer."""
        back = _safe(back)
        if (refusal := desk.too_many(request)) is not None:
            return refused(refusal, back)
        if issuer not in desk.ways():
            return refused(
                Refusal(code=ErrorCode.NOT_FOUND, detail="there is no such issuer"), back
            )
        way = desk.flow.new_way()
        try:
            answer = redirect(await desk.flow.leave(issuer, way))
        except GatekeeperError as error:
            return refused(Refusal(code=error.code, detail=error.detail), back)
        number = desk.ways().index(issuer)
        value = f"{way.secret.reveal()}.{number}.{base64url.encode(back.encode())}"
        cookies.put(answer, cookies.SIGNING_IN, value, seconds=SIGN_IN_SECONDS)
        return answer

    @router.get("/callback")
    async def come_back(
        request: Request,
        code: Text = "",
        state: Text = "",
        iss: Annotated[str | None, Query(max_length=4_096)] = None,
        error: Text = "",
    ) -> Response:
        """Take the browser back from its issuer."""
        issuer, way, back = _tried(request, desk.ways())
        if (refusal := desk.too_many(request)) is not None:
            return refused(refusal, back)
        came = Came(code=code, state=state, issuer=iss, error=error)
        found = await _redeemed(desk, issuer, way, came)
        if isinstance(found, Refusal):
            desk.failed(request)
            answer = refused(found, back)
            cookies.drop(answer, cookies.SIGNING_IN)
            return answer
        answer = redirect(back)
        cookies.drop(answer, cookies.SIGNING_IN)
        await _begin(desk, request, answer, found, by="code")
        return answer

    return router


def session_routes(desk: Desk) -> APIRouter:
    """Make the routes that begin a session with a token, and end one."""
    router = APIRouter(prefix=HOME, include_in_schema=False)

    @router.post("/token")
    async def bring_token(
        request: Request,
        id_token: Annotated[str, Form(max_length=MAX_TOKEN_CHARS)] = "",
    ) -> Response:
        """Turn an identity token into a session, which ends no later than the token does."""
        origin = request.headers.get("origin")
        if origin != desk.origin and origin not in desk.sign_in_origins:
            raise RefusedError(_not_ours())
        if (refusal := desk.too_many(request)) is not None:
            raise RefusedError(refusal)
        claims = await desk.verifier.claims(_bearer(request) or id_token)
        if isinstance(claims, Refusal) or claims["iss"] not in desk.issuers:
            desk.failed(request)
            raise RefusedError(claims if isinstance(claims, Refusal) else _no_person())
        answer = redirect(HOME) if id_token else Response(status_code=204)
        until = datetime.fromtimestamp(claims["exp"], UTC)
        await _begin(desk, request, answer, claims, by="token", until=until)
        return answer

    @router.post("/sign-out", status_code=204)
    async def sign_out(request: Request) -> Response:
        """End the session that the page has."""
        if not cookies.is_from_page(request, desk.origin):
            raise RefusedError(_not_ours())
        answer = Response(status_code=204)
        if (secret := cookies.session_of(request)) is not None:
            await desk.sessions.end(secret, context.correlation_id.get())
        cookies.drop(answer, cookies.SESSION)
        return answer

    return router


async def _redeemed(
    desk: Desk, issuer: str, way: Way | None, came: Came
) -> Mapping[str, Any] | Refusal:
    if way is None:
        return Refusal(
            code=ErrorCode.AUTHENTICATION_ERROR,
            detail="you are not signed in: this browser did not ask for it, or too long ago",
        )
    try:
        return await desk.flow.come_back(issuer, way, came)
    except GatekeeperError as error:
        return Refusal(code=error.code, detail=error.detail)


async def _begin(
    desk: Desk,
    request: Request,
    answer: Response,
    claims: Mapping[str, Any],
    *,
    by: str,
    until: datetime | None = None,
) -> None:
    """Give the browser a new session: never one that it, or anybody else, had before."""
    secret = await desk.sessions.begin(
        desk.verifier.principal(claims),
        by=by,
        correlation_id=context.correlation_id.get(),
        until=until,
        instead_of=cookies.session_of(request),
    )
    cookies.put(answer, cookies.SESSION, secret, seconds=int(ABSOLUTE.total_seconds()))


def _tried(request: Request, ways: list[str]) -> tuple[str, Way | None, str]:
    """Read what the cookie says of a try: which issuer, by which secret, and where to go then."""
    value = request.cookies.get(cookies.SIGNING_IN, "")[: cookies.MAX_COOKIE_CHARS]
    secret, _, rest = value.partition(".")
    number, _, back = rest.partition(".")
    numbers = {str(place): issuer for place, issuer in enumerate(ways)}
    if not secret or number not in numbers:
        return "", None, HOME
    try:
        back = base64url.decode(back).decode()
    except ValueError:
        back = HOME
    return numbers[number], Way(secret=Secret(secret)), _safe(back)


def _safe(back: str) -> str:
    """Keep an address only if it is one of our pages (an open redirect sends people elsewhere)."""
    return back if BACK.fullmatch(back) else HOME


def _bearer(request: Request) -> str:
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    return token if scheme.lower() == "bearer" else ""


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _no_person() -> Refusal:
    return Refusal(
        code=ErrorCode.AUTHENTICATION_ERROR, detail="tokens of this issuer sign nobody in"
    )


def _not_ours() -> Refusal:
    return Refusal(
        code=ErrorCode.POLICY_DENIED,
        detail="a page of another site asked for this",
        hint="an operator may add its origin to console_sign_in_origins",
    )
