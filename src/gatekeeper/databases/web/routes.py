"""The routes of `/sessions`, `/targets`, `/roles`, `/policy` and `/reconcile`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import StreamingResponse

from gatekeeper.databases.model import Session, SessionFilter, Target
from gatekeeper.databases.reconcile import ReconcileService
from gatekeeper.databases.service import SessionService
from gatekeeper.databases.web import translate
from gatekeeper.databases.web.watch import SessionWatch
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.kernel.ids import SESSION_ID, SessionId
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.kernel.ttl import format_ttl, parse_ttl
from gatekeeper.platform.http import context
from gatekeeper.platform.http.context import Authenticate
from gatekeeper.platform.http.problems import (
    OF_CALLERS,
    RefusedError,
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
from gatekeeper.wire import sessions as wire

SessionPath = Annotated[str, Path(pattern=f"^{SESSION_ID.pattern}$")]
TargetPath = Annotated[str, Path(min_length=1, max_length=63, pattern=wire.PRINTABLE)]
NameQuery = Annotated[str | None, Query(max_length=63, pattern=wire.PRINTABLE)]


def session_routes(
    *, service: SessionService, watch: SessionWatch, authenticate: Authenticate
) -> APIRouter:
    """Make the routes of sessions."""
    router = APIRouter(responses=problems(*OF_CALLERS))
    caller = Depends(authenticate)

    def view(principal: Principal, session: Session) -> wire.SessionView:
        return translate.shown(service, principal, session)

    @router.post(
        "/sessions",
        status_code=202,
        responses={
            201: {"model": wire.SessionView, "description": "It became ready in time."},
            **problems(403, 404, 409, 429),
        },
    )
    async def create_session(
        body: wire.CreateSession,
        response: Response,
        key: KeyHeader = None,
        wait: WaitQuery = 0,
        principal: Principal = caller,
    ) -> wire.SessionView:
        """Ask for a database login."""
        wanted = translate.new_session(
            body, idempotency_key=key, correlation_id=context.correlation_id.get()
        )
        session = granted(await service.create(principal, wanted))
        if wait and session.status is SessionStatus.PENDING:
            session = await watch.until_settled(session, seconds=wait)
        if session.status is SessionStatus.READY:
            response.status_code = 201
        response.headers["Location"] = f"/sessions/{session.id}"
        return view(principal, session)

    @router.get("/sessions")
    async def list_sessions(
        status: Annotated[tuple[SessionStatus, ...], Query(max_length=len(SessionStatus))] = (),
        target: NameQuery = None,
        role: NameQuery = None,
        mine: bool = False,  # noqa: FBT001, FBT002  # a query parameter
        limit: Annotated[int, Query(ge=1, le=wire.MAX_PAGE_ITEMS)] = wire.DEFAULT_PAGE_ITEMS,
        cursor: Annotated[str | None, Query(max_length=256)] = None,
        principal: Principal = caller,
    ) -> wire.SessionPage:
        """List sessions, newest first: the caller's own, and all of them for an operator.

        Each `status` that is given adds those that have it; without one: all.
        """
        everyone = service.sees_all(principal) and not mine
        found = await service.find(
            SessionFilter(
                requester=None if everyone else principal.key,
                statuses=frozenset(status),
                target=target,
                role=role,
                limit=limit + 1,
                before=None if cursor is None else read_page_cursor(cursor, SESSION_ID),
            )
        )
        more = len(found) > limit
        page = found[:limit]
        return wire.SessionPage(
            items=tuple(view(principal, session) for session in page),
            next=page_cursor(page[-1].created_at, page[-1].id) if more else None,
        )

    @router.get(
        "/sessions/events",
        response_class=StreamingResponse,
        responses=text_answer(EVENTS_MEDIA_TYPE, "Events, until the caller goes."),
    )
    async def session_events(
        last_event_id: EventIdHeader = None,
        principal: Principal = caller,
    ) -> StreamingResponse:
        """Stream changes as they happen (server-sent events); `Last-Event-ID` resumes."""
        requester = None if service.sees_all(principal) else principal.key
        return watch.answer(principal.key, requester, last_event_id)

    @router.get("/sessions/{session_id}", responses=problems(404))
    async def get_session(
        session_id: SessionPath, principal: Principal = caller
    ) -> wire.SessionView:
        """Show one session."""
        return view(principal, granted(await service.get(principal, SessionId(session_id))))

    @router.post("/sessions/{session_id}/revoke", responses=problems(404))
    async def revoke_session(
        session_id: SessionPath, wait: WaitQuery = 0, principal: Principal = caller
    ) -> wire.SessionView:
        """End a session now; with `wait`, answer when its login is proven gone."""
        session = granted(
            await service.revoke(principal, SessionId(session_id), context.correlation_id.get())
        )
        if wait:
            session = await watch.until_cleaned(session, seconds=wait)
        return view(principal, session)

    @router.post("/sessions/{session_id}/extend", responses=problems(403, 404, 409, 502))
    async def extend_session(
        session_id: SessionPath, body: wire.ExtendSession, principal: Principal = caller
    ) -> wire.SessionView:
        """Move the end of a session to `ttl` from now."""
        session = await service.extend(
            principal, SessionId(session_id), parse_ttl(body.ttl), context.correlation_id.get()
        )
        return view(principal, granted(session))

    return router


def access_routes(*, service: SessionService, authenticate: Authenticate) -> APIRouter:
    """Make the routes that say what a caller may ask for, and why."""
    router = APIRouter(responses=problems(*OF_CALLERS))
    caller = Depends(authenticate)

    @router.get("/targets")
    async def list_targets(principal: Principal = caller) -> wire.TargetList:
        """List targets, and for each role whether the caller may have it."""
        return wire.TargetList(
            items=tuple(_target_view(service, principal, t) for t in service.targets())
        )

    @router.get("/roles")
    async def list_roles(principal: Principal = caller) -> wire.RoleList:
        """List every role at every target, and whether the caller may have it."""
        return wire.RoleList(
            items=tuple(
                wire.RoleEntry(target=view.target, **role.model_dump())
                for view in (_target_view(service, principal, t) for t in service.targets())
                for role in view.roles
            )
        )

    @router.post("/policy/explain")
    async def explain_policy(
        body: wire.ExplainRequest, principal: Principal = caller
    ) -> wire.Explanation:
        """Say what the policy would answer, and why. Asks for nothing."""
        ttl = None if body.ttl is None else parse_ttl(body.ttl)
        return translate.explanation(
            service.decide(principal, body.target, body.role, ttl, body.reason, plane=body.plane)
        )

    return router


def operator_routes(
    *, service: SessionService, reconciler: ReconcileService, authenticate: Authenticate
) -> APIRouter:
    """Make the routes for operators: doctor and reconcile."""
    router = APIRouter(responses=problems(*OF_CALLERS, 403, 404, 502))
    caller = Depends(authenticate)

    @router.post("/targets/{target}/doctor")
    async def target_doctor(target: TargetPath, principal: Principal = caller) -> wire.DoctorReport:
        """Check everything a target needs; each failure carries the statement that mends it."""
        _operators_only(service, principal)
        checked = granted(service.target(target))
        checks = await reconciler.doctor(checked, context.correlation_id.get())
        return wire.DoctorReport(
            target=target,
            checks=tuple(
                wire.CheckView(name=c.name, status=c.status.value, detail=c.detail, fix=c.fix)
                for c in checks
            ),
        )

    @router.post("/reconcile")
    async def reconcile(
        body: wire.ReconcileRequest, principal: Principal = caller
    ) -> wire.ReconcileReport:
        """Compare targets with the store; with `plan: false` also end what should not be."""
        _operators_only(service, principal)
        targets = (
            service.targets() if body.target is None else [granted(service.target(body.target))]
        )
        found = await reconciler.reconcile(
            principal, targets, apply=not body.plan, correlation_id=context.correlation_id.get()
        )
        return wire.ReconcileReport(
            applied=not body.plan,
            items=tuple(
                wire.DriftView(
                    target=d.target,
                    username=d.username,
                    session_id=d.session,
                    kind=d.kind,
                    detail=d.detail,
                    action=d.action,
                    problem=d.problem,
                )
                for d in found.drifts
            ),
            unseen=tuple(
                wire.UnseenTarget(target=target, code=why.code, message=why.message)
                for target, why in found.unseen.items()
            ),
        )

    return router


def _target_view(service: SessionService, principal: Principal, target: Target) -> wire.TargetView:
    return wire.TargetView(
        target=target.name,
        engine=target.engine,
        min_ttl=format_ttl(target.min_ttl),
        max_ttl=format_ttl(target.max_ttl),
        roles=tuple(
            translate.role_view(role, service.decide(principal, target.name, role, None, ""))
            for role in target.roles
        ),
    )


def _operators_only(service: SessionService, principal: Principal) -> None:
    if not service.sees_all(principal):
        raise RefusedError(
            Refusal(
                code=ErrorCode.POLICY_DENIED,
                detail="this is for operators of Gatekeeper",
                hint="gk login as one of them, or ask one; gk whoami shows who you are",
            )
        )
