"""The routes of `/terminals`, `/shares` and `/profiles`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import StreamingResponse

from gatekeeper.kernel.identity import Principal
from gatekeeper.kernel.ids import TERMINAL_ID, TerminalId
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.http import context
from gatekeeper.platform.http.context import Authenticate
from gatekeeper.platform.http.problems import (
    OF_CALLERS,
    granted,
    problems,
    text_answer,
)
from gatekeeper.platform.http.requests import (
    EventIdHeader,
    KeyHeader,
    WaitQuery,
    page_cursor,
    read_page_cursor,
)
from gatekeeper.platform.http.watch import EVENTS_MEDIA_TYPE
from gatekeeper.terminals.model import Mode, Terminal, TerminalFilter
from gatekeeper.terminals.service import AttachService, DriveService, TerminalService
from gatekeeper.terminals.web import translate
from gatekeeper.terminals.web.watch import TerminalWatch
from gatekeeper.wire import sessions
from gatekeeper.wire import terminals as wire

RECORDING_MEDIA_TYPE: Final = "application/x-asciicast"
TerminalPath = Annotated[str, Path(pattern=f"^{TERMINAL_ID.pattern}$")]
OriginHeader = Annotated[
    str | None, Header(max_length=wire.MAX_ORIGIN_CHARS, pattern=r"^[\x21-\x7e]+$")
]
"""A browser says which page asks; only that page can use the ticket."""


def terminal_routes(
    *, service: TerminalService, watch: TerminalWatch, authenticate: Authenticate
) -> APIRouter:
    """Make the routes that ask for terminals, show and end them."""
    router = APIRouter(responses=problems(*OF_CALLERS))
    caller = Depends(authenticate)

    async def view(principal: Principal, terminal: Terminal) -> wire.TerminalView:
        place = await service.queue_place(terminal)
        return translate.terminal_view(terminal, principal, place)

    @router.post(
        "/terminals",
        status_code=202,
        responses={
            201: {"model": wire.TerminalView, "description": "It became ready in time."},
            **problems(403, 404, 409, 429),
        },
    )
    async def create_terminal(
        body: wire.CreateTerminal,
        response: Response,
        key: KeyHeader = None,
        wait: WaitQuery = 0,
        principal: Principal = caller,
    ) -> wire.TerminalView:
        """Ask for a terminal."""
        wanted = translate.new_terminal(
            body, idempotency_key=key, correlation_id=context.correlation_id.get()
        )
        terminal = granted(await service.create(principal, wanted))
        if wait and terminal.status is SessionStatus.PENDING:
            terminal = await watch.until_settled(terminal, seconds=wait)
        if terminal.status is SessionStatus.READY:
            response.status_code = 201
        response.headers["Location"] = f"/terminals/{terminal.id}"
        return await view(principal, terminal)

    @router.get("/terminals")
    async def list_terminals(
        status: Annotated[tuple[SessionStatus, ...], Query(max_length=len(SessionStatus))] = (),
        mine: bool = False,  # noqa: FBT001, FBT002  # a query parameter
        limit: Annotated[int, Query(ge=1, le=sessions.MAX_PAGE_ITEMS)] = (
            sessions.DEFAULT_PAGE_ITEMS
        ),
        cursor: Annotated[str | None, Query(max_length=256)] = None,
        principal: Principal = caller,
    ) -> wire.TerminalPage:
        """List terminals, newest first: the caller's own, and all of them for an operator.

        Each `status` that is given adds those that have it; without one: all.
        """
        everyone = service.sees_all(principal) and not mine
        found = await service.find(
            TerminalFilter(
                requester=None if everyone else principal.key,
                statuses=frozenset(status),
                limit=limit + 1,
                before=None if cursor is None else read_page_cursor(cursor, TERMINAL_ID),
            )
        )
        page = found[:limit]
        return wire.TerminalPage(
            items=tuple(translate.terminal_view(terminal, principal) for terminal in page),
            next=page_cursor(page[-1].created_at, page[-1].id) if len(found) > limit else None,
        )

    @router.get(
        "/terminals/events",
        response_class=StreamingResponse,
        responses={
            **text_answer(EVENTS_MEDIA_TYPE, "Events, until the caller goes."),
            **problems(429),
        },
    )
    async def terminal_events(
        last_event_id: EventIdHeader = None,
        principal: Principal = caller,
    ) -> StreamingResponse:
        """Stream changes as they happen (server-sent events); `Last-Event-ID` resumes."""
        requester = None if service.sees_all(principal) else principal.key
        return watch.answer(principal.key, requester, last_event_id)

    @router.get("/terminals/{terminal_id}", responses=problems(404))
    async def get_terminal(
        terminal_id: TerminalPath, principal: Principal = caller
    ) -> wire.TerminalView:
        """Show one terminal, also after its end."""
        found = granted(await service.get(principal, TerminalId(terminal_id)))
        return await view(principal, found)

    @router.delete("/terminals/{terminal_id}", responses=problems(404))
    async def stop_terminal(
        terminal_id: TerminalPath, wait: WaitQuery = 0, principal: Principal = caller
    ) -> wire.TerminalView:
        """End a terminal; with `wait` the answer comes when it is proven gone, or the time over."""
        correlation = context.correlation_id.get()
        terminal = granted(await service.stop(principal, TerminalId(terminal_id), correlation))
        if wait:
            terminal = await watch.until_cleaned(terminal, seconds=wait)
        return await view(principal, terminal)

    @router.get("/profiles")
    async def list_profiles(principal: Principal = caller) -> wire.ProfileList:
        """List what may be run, and whether the caller may."""
        return wire.ProfileList(
            items=tuple(
                translate.profile_view(profile, service.decide(principal, profile, None, ""))
                for profile in service.profiles()
            ),
            sandbox=await service.sandbox(),
        )

    return router


def attach_routes(
    *, service: AttachService, public_url: str, authenticate: Authenticate
) -> APIRouter:
    """Make the routes that let clients attach."""
    router = APIRouter(responses=problems(*OF_CALLERS, 404, 409))
    caller = Depends(authenticate)

    @router.post("/terminals/{terminal_id}/attach", responses=problems(403))
    async def attach_terminal(
        terminal_id: TerminalPath,
        body: wire.AttachRequest,
        response: Response,
        origin: OriginHeader = None,
        principal: Principal = caller,
    ) -> wire.TicketView:
        """Give a ticket: leave to attach once, within a minute."""
        response.headers["Cache-Control"] = "no-store"
        ticket = await service.attach(
            principal,
            TerminalId(terminal_id),
            Mode(body.mode),
            origin=origin,
            correlation_id=context.correlation_id.get(),
        )
        return translate.ticket_view(granted(ticket))

    @router.post("/terminals/{terminal_id}/share", status_code=201, responses=problems(403))
    async def share_terminal(
        terminal_id: TerminalPath,
        body: wire.ShareTerminal,
        response: Response,
        principal: Principal = caller,
    ) -> wire.ShareView:
        """Make a link that lets whoever is signed in watch, until it is over."""
        response.headers["Cache-Control"] = "no-store"
        made = await service.share(
            principal,
            TerminalId(terminal_id),
            timedelta(minutes=body.minutes),
            context.correlation_id.get(),
        )
        return translate.share_view(granted(made), public_url)

    @router.post("/shares/open")
    async def open_share(
        body: wire.OpenShare,
        response: Response,
        origin: OriginHeader = None,
        principal: Principal = caller,
    ) -> wire.SharedTerminal:
        """Give a ticket to watch to whoever has a link's secret."""
        response.headers["Cache-Control"] = "no-store"
        opened = await service.open_share(
            principal, body.secret, origin=origin, correlation_id=context.correlation_id.get()
        )
        return translate.opened_view(*granted(opened))

    return router


def drive_routes(*, service: DriveService, authenticate: Authenticate) -> APIRouter:
    """Make the routes for programs, and the one of recordings."""
    router = APIRouter(responses=problems(*OF_CALLERS, 404, 502))
    caller = Depends(authenticate)

    @router.post("/terminals/{terminal_id}/input", status_code=204, responses=problems(403, 409))
    async def send_input(
        terminal_id: TerminalPath, body: wire.SendInput, principal: Principal = caller
    ) -> None:
        """Type into a terminal."""
        correlation = context.correlation_id.get()
        refusal = await service.send_input(
            principal, TerminalId(terminal_id), body.data, correlation
        )
        granted(refusal)

    @router.get("/terminals/{terminal_id}/screen", responses=problems(409, 410))
    async def terminal_screen(
        terminal_id: TerminalPath, principal: Principal = caller
    ) -> wire.ScreenView:
        """Show what is on the screen, or was at the end."""
        correlation = context.correlation_id.get()
        lines, size = granted(await service.screen(principal, TerminalId(terminal_id), correlation))
        return wire.ScreenView(lines=tuple(lines), columns=size.columns, rows=size.rows)

    @router.post("/terminals/{terminal_id}/wait", responses=problems(409, 429))
    async def wait_for_text(
        terminal_id: TerminalPath, body: wire.WaitForText, principal: Principal = caller
    ) -> wire.Waited:
        """Wait until a text is on the screen, or was written since the call."""
        correlation = context.correlation_id.get()
        found = await service.wait_for_text(
            principal, TerminalId(terminal_id), body.text, body.seconds, correlation
        )
        return wire.Waited(found=granted(found))

    @router.get(
        "/terminals/{terminal_id}/recording",
        response_class=StreamingResponse,
        responses={
            **text_answer(RECORDING_MEDIA_TYPE, "An asciicast (version 3)."),
            **problems(410),
        },
    )
    async def terminal_recording(
        terminal_id: TerminalPath, principal: Principal = caller
    ) -> StreamingResponse:
        """Stream the recording, as far as there is one by now."""
        correlation = context.correlation_id.get()
        recording = granted(
            await service.recording(principal, TerminalId(terminal_id), correlation)
        )
        return StreamingResponse(
            recording,
            media_type=RECORDING_MEDIA_TYPE,
            headers={
                "Cache-Control": "no-store",
                "Content-Disposition": f'attachment; filename="{terminal_id}.cast"',
            },
        )

    return router
