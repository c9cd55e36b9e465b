"""The audit events of this plane, made in one place so that they all look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.audit import AuditEvent

if TYPE_CHECKING:
    from datetime import datetime

    from gatekeeper.databases.model import Session
    from gatekeeper.kernel.audit import Actor, AuditKind, Json

PLANE: Final = "databases"


def session_event(
    kind: AuditKind,
    session: Session,
    *,
    at: datetime,
    actor: Actor,
    correlation_id: str | None = None,
    **data: Json,
) -> AuditEvent:
    """Tell of a change of a session, under the id of the request that caused it."""
    return AuditEvent(
        kind=kind,
        at=at,
        actor=actor,
        plane=PLANE,
        correlation_id=correlation_id or session.correlation_id,
        session=session.id,
        target=session.target,
        data={"role": session.role, "status": session.status.value, **data},
    )


def target_event(
    kind: AuditKind,
    target: str,
    *,
    at: datetime,
    actor: Actor,
    correlation_id: str,
    session: str | None = None,
    **data: Json,
) -> AuditEvent:
    """Tell of something at a target that is no change of a session's status."""
    return AuditEvent(
        kind=kind,
        at=at,
        actor=actor,
        plane=PLANE,
        correlation_id=correlation_id,
        session=session,
        target=target,
        data=data,
    )
