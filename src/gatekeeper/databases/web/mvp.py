"""The first MVP's two routes, as thin aliases over the same service; off by default.

They differ from `/sessions` in three ways: they wait, the agent makes the password, and a
session that failed is a problem instead of a status.
"""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Depends

from gatekeeper.databases import errors
from gatekeeper.databases.model import NewSession, Session
from gatekeeper.databases.service import SessionService
from gatekeeper.databases.web import translate
from gatekeeper.databases.web.watch import SessionWatch
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.kernel.ids import RoleName, session_of
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.http import context
from gatekeeper.platform.http.context import Authenticate
from gatekeeper.platform.http.problems import OF_CALLERS, RefusedError, granted, problems
from gatekeeper.wire import mvp as wire
from gatekeeper.wire.sessions import MAX_WAIT_SECONDS


def mvp_routes(
    *, service: SessionService, watch: SessionWatch, authenticate: Authenticate
) -> APIRouter:
    """Make the aliases. Policy, limits and evidence are those of `/sessions`."""
    router = APIRouter(prefix="/api/sessions", responses=problems(*OF_CALLERS, 403, 404, 429))
    caller = Depends(authenticate)

    def view(principal: Principal, session: Session) -> wire.MvpSession:
        shown = translate.shown(service, principal, session)
        return wire.MvpSession(
            status=shown.status,
            dsn=shown.dsn,
            expires_at=shown.expires_at,
            username=shown.username,
        )

    @router.post("", responses=problems(502, 504))
    async def mvp_create_session(
        body: wire.MvpCreateSession, principal: Principal = caller
    ) -> wire.MvpSession:
        """Ask for a database login, and wait for it."""
        wanted = NewSession(
            target=body.db,
            role=body.role,
            ttl=timedelta(minutes=body.ttl_minutes),
            reason=f"requested by {body.requested_by}" if body.requested_by else "",
            verifier=None,
            correlation_id=context.correlation_id.get(),
        )
        session = granted(await service.create(principal, wanted))
        session = await watch.until_settled(session, seconds=MAX_WAIT_SECONDS)
        if session.status is SessionStatus.FAILED and session.error is not None:
            raise RefusedError(
                Refusal(code=ErrorCode(session.error.code), detail=session.error.message)
            )
        return view(principal, session)

    @router.post("/drop")
    async def mvp_drop_session(
        body: wire.MvpDropSession, principal: Principal = caller
    ) -> wire.MvpSession:
        """End a login now, and wait for the proof that it is gone."""
        found = session_of(RoleName(body.username))
        session = granted(await service.get(principal, found))
        if session.target != body.db:
            raise RefusedError(errors.no_such_session(found))
        session = granted(await service.revoke(principal, found, context.correlation_id.get()))
        return view(principal, await watch.until_cleaned(session, seconds=MAX_WAIT_SECONDS))

    return router
