"""The routes of the evidence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.platform.http import context
from gatekeeper.platform.http.context import Authenticate
from gatekeeper.platform.http.problems import (
    OF_CALLERS,
    RefusedError,
    granted,
    problems,
    text_answer,
)
from gatekeeper.wire import audit as wire

if TYPE_CHECKING:
    from gatekeeper.platform.audit.reader import AuditReader

EXPORT_MEDIA_TYPE: Final = "application/x-ndjson"
MAX_SEQ: Final = 2**53 - 1
DEFAULT_PAGE_EVENTS: Final = 100
MAX_CHECKPOINTS: Final = 100

Limit = Annotated[int, Query(ge=1, le=wire.MAX_PAGE_EVENTS)]


def audit_routes(
    reader: AuditReader,
    *,
    authenticate: Authenticate,
    authenticate_costly: Authenticate,
    may_read: Callable[[Principal], bool],
    exported: Callable[[Principal, str], Awaitable[None]],
) -> APIRouter:
    """Make the routes of the evidence.

    `may_read` tells whose business it is; `exported` is told who takes all of it away.
    """
    router = APIRouter(prefix="/audit", responses=problems(*OF_CALLERS, 403, 429))
    caller = Depends(authenticate)
    costly_caller = Depends(authenticate_costly)

    def permit(principal: Principal) -> None:
        if not may_read(principal):
            raise RefusedError(
                Refusal(
                    code=ErrorCode.POLICY_DENIED,
                    detail="the evidence is for operators of Gatekeeper",
                    hint="gk login as one of them, or ask one; gk whoami shows who you are",
                )
            )

    @router.get("/events")
    async def audit_events(
        after: Annotated[int, Query(ge=0, le=MAX_SEQ)] = 0,
        limit: Limit = DEFAULT_PAGE_EVENTS,
        session: Annotated[str | None, Query(max_length=64, pattern=r"^[\x21-\x7e]*$")] = None,
        principal: Principal = caller,
    ) -> wire.EventPage:
        """Read events in their order."""
        permit(principal)
        items = tuple(await reader.events(after=after, limit=limit, session=session))
        return wire.EventPage(items=items, next=items[-1].seq if len(items) == limit else None)

    @router.get("/checkpoints")
    async def audit_checkpoints(
        limit: Annotated[int, Query(ge=1, le=MAX_CHECKPOINTS)] = 1,
        principal: Principal = caller,
    ) -> wire.CheckpointPage:
        """Read the newest signed checkpoints, newest first."""
        permit(principal)
        return wire.CheckpointPage(items=tuple(await reader.checkpoints(limit=limit)))

    @router.get("/proof/{seq}", responses=problems(404))
    async def audit_proof(
        seq: Annotated[int, Path(ge=1, le=MAX_SEQ)], principal: Principal = caller
    ) -> wire.Proof:
        """Show that an event is in the chain that was signed."""
        permit(principal)
        return granted(await reader.proof(seq))

    @router.get(
        "/export",
        response_class=StreamingResponse,
        responses=text_answer(EXPORT_MEDIA_TYPE, "The lines of an export."),
    )
    async def audit_export(principal: Principal = costly_caller) -> StreamingResponse:
        """Export the whole chain as JSON lines, to be verified without us."""
        permit(principal)
        await exported(principal, context.correlation_id.get())
        return StreamingResponse(reader.export(), media_type=EXPORT_MEDIA_TYPE)

    return router
