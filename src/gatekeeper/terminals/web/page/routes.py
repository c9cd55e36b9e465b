"""The pages, and the one place that offers all routes of the console."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import PlainTextResponse

from gatekeeper.kernel.ids import TERMINAL_ID
from gatekeeper.terminals.web.page.answers import HEADERS, PLAIN, Answers, redirect
from gatekeeper.terminals.web.page.assets import NotBuiltError, assets
from gatekeeper.terminals.web.page.signing_in import HOME, Desk, session_routes, sign_in_routes

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
FOR_EVER: Final = "public, max-age=31536000, immutable"
TerminalPath = Annotated[str, Path(pattern=f"^{TERMINAL_ID.pattern}$")]


def console_routes(*, desk: Desk, answers: Answers) -> list[APIRouter]:
    """Make all routes of the console; none is part of the API."""
    return [
        _front(),
        sign_in_routes(desk, answers),
        session_routes(desk),
        _pages(desk, answers),
        _assets(),
    ]


def _front() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def front() -> Response:
        """Bring whoever comes by the bare address to the pages."""
        return redirect(HOME)

    return router


def _pages(desk: Desk, answers: Answers) -> APIRouter:
    router = APIRouter(prefix=HOME, include_in_schema=False)

    async def page(request: Request, name: str, terminal: str = "") -> Response:
        """Show a page to whoever is signed in, and to others how to sign in."""
        if (elsewhere := _at_home(request, desk.origin)) is not None:
            return redirect(elsewhere)
        principal = await desk.signed_in(request)
        if principal is not None:
            return answers.page(name, principal=principal, terminal=terminal)
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return answers.page("sign_in.html", issuers=desk.ways(), back=back)

    @router.get("")
    async def terminals(request: Request) -> Response:
        return await page(request, "terminals.html")

    @router.get("/terminals/{terminal_id}")
    async def terminal(request: Request, terminal_id: TerminalPath) -> Response:
        return await page(request, "terminal.html", terminal_id)

    @router.get("/recordings/{terminal_id}")
    async def recording(request: Request, terminal_id: TerminalPath) -> Response:
        return await page(request, "recording.html", terminal_id)

    @router.get("/shared")
    async def shared(request: Request) -> Response:
        """Show what a link shares: who has it needs to sign in only where the API says so."""
        if (elsewhere := _at_home(request, desk.origin)) is not None:
            return redirect(elsewhere)
        return answers.page("shared.html", principal=await desk.signed_in(request))

    return router


def _assets() -> APIRouter:
    router = APIRouter(prefix=f"{HOME}/assets", include_in_schema=False)

    @router.get("/{folder}/{name}")
    async def asset(request: Request, folder: str, name: str) -> Response:
        try:
            found = assets().files.get(f"{folder}/{name}")
        except NotBuiltError as error:
            return PlainTextResponse(f"{error}\n", status_code=503, headers=PLAIN)
        if found is None:
            return PlainTextResponse("there is no such file\n", status_code=404, headers=PLAIN)
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = HEADERS | {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
        return Response(
            found.packed if packed else found.plain,
            media_type=found.media_type,
            headers=headers | ({"Content-Encoding": "gzip"} if packed else {}),
        )

    return router


def _at_home(request: Request, origin: str) -> str | None:
    """Return the same page's address at our own origin, when it was asked for by another name.

    A session's cookie, and what a page may call, hang on the host's name: `localhost` is
    another than `127.0.0.1`. Only these are told apart: behind a proxy the name that is asked
    for may be anything, and the browser knows another.
    """
    asked = request.headers.get("host", "").rpartition(":")[0].strip("[]")
    ours = urlsplit(origin).hostname or ""
    if asked == ours or not {asked, ours} <= LOOPBACK:
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{origin}{request.url.path}{query}"
