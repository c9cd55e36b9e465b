"""Between the wire's models and the plane's values."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from gatekeeper.databases.model import NewSession
from gatekeeper.kernel import policy
from gatekeeper.kernel.errors import Refusal
from gatekeeper.kernel.ttl import format_ttl, parse_ttl
from gatekeeper.platform.http.requests import fingerprint
from gatekeeper.wire import sessions as wire

if TYPE_CHECKING:
    from gatekeeper.databases.model import Session, SessionChange, Target
    from gatekeeper.databases.service import SessionService
    from gatekeeper.kernel.identity import Principal


def new_session(
    body: wire.CreateSession, *, idempotency_key: str | None, correlation_id: str
) -> NewSession:
    """Read a request. Raises `InputError` for a duration that is none."""
    return NewSession(
        target=body.target,
        role=body.role,
        ttl=_ttl(body),
        reason=body.reason,
        verifier=None if body.credential == "generated" else body.credential.verifier,
        idempotency_key=idempotency_key,
        body_sha256=fingerprint(body),
        correlation_id=correlation_id,
    )


def shown(service: SessionService, principal: Principal, session: Session) -> wire.SessionView:
    """Show a session to a caller, with its password if it is theirs to have."""
    target = service.target(session.target)
    return session_view(
        session,
        None if isinstance(target, Refusal) else target,
        service.password(principal, session),
    )


def session_view(session: Session, target: Target | None, password: str | None) -> wire.SessionView:
    """Show a session; `password` only when its reader may have it."""
    connection = _connection(target) if target is not None else None
    return wire.SessionView(
        session_id=session.id,
        status=session.status,
        target=session.target,
        role=session.role,
        requester=session.requester_email or session.requester,
        reason=session.reason,
        created_at=session.created_at,
        ttl_seconds=int(session.ttl.total_seconds()),
        username=session.username if session.ready_at is not None else None,
        expires_at=session.expires_at,
        ended_at=session.ended_at,
        cleaned_at=session.cleaned_at,
        connection=connection,
        dsn=_dsn(session, connection, password),
        error=_error(session),
        correlation_id=session.correlation_id,
    )


def session_event(change: SessionChange) -> wire.SessionEvent:
    return wire.SessionEvent(
        seq=change.cursor[1],
        session_id=change.session_id,
        status=change.status,
        at=change.at,
        target=change.target,
        role=change.role,
    )


def explanation(decision: policy.Decision) -> wire.Explanation:
    if isinstance(decision, policy.Allowed):
        return wire.Explanation(
            allowed=True,
            grant=decision.grant,
            ttl=format_ttl(decision.ttl),
            max_ttl=format_ttl(decision.max_ttl),
        )
    return wire.Explanation(
        allowed=False,
        needs_approval=isinstance(decision, policy.NeedsApproval),
        reasons=decision.explain(),
        alternatives=decision.alternatives,
    )


def role_view(role: str, decision: policy.Decision) -> wire.RoleView:
    if isinstance(decision, policy.Allowed):
        return wire.RoleView(role=role, allowed=True, max_ttl=format_ttl(decision.max_ttl))
    return wire.RoleView(role=role, allowed=False, reasons=decision.explain())


def _ttl(body: wire.CreateSession) -> timedelta | None:
    if body.ttl_minutes is not None:
        return timedelta(minutes=body.ttl_minutes)
    return None if body.ttl is None else parse_ttl(body.ttl)


def _connection(target: Target) -> wire.ConnectionView:
    return wire.ConnectionView(
        host=target.host, port=target.port, database=target.database, sslmode=target.sslmode
    )


def _dsn(
    session: Session, connection: wire.ConnectionView | None, password: str | None
) -> str | None:
    if password is None or connection is None:
        return None
    return wire.dsn(connection, session=session.id, username=session.username, password=password)


def _error(session: Session) -> wire.SessionError | None:
    if session.error is None:
        return None
    return wire.SessionError(
        code=session.error.code,
        message=session.error.message,
        retryable=session.error.retryable,
    )
