"""The audit events of this plane, made in one place so that they all look alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.audit import AuditEvent

if TYPE_CHECKING:
    from datetime import datetime

    from gatekeeper.kernel.audit import Actor, AuditKind, Json
    from gatekeeper.terminals.model import Ended, Terminal

PLANE: Final = "terminals"


def terminal_event(
    kind: AuditKind,
    terminal: Terminal,
    *,
    at: datetime,
    actor: Actor,
    correlation_id: str | None = None,
    **data: Json,
) -> AuditEvent:
    """Tell of something with a terminal, under the id of the request that caused it."""
    return AuditEvent(
        kind=kind,
        at=at,
        actor=actor,
        plane=PLANE,
        correlation_id=correlation_id or terminal.correlation_id,
        session=terminal.id,
        target=terminal.runner,
        data={"profile": terminal.profile, "status": terminal.status.value, **data},
    )


def attested_event(
    kind: AuditKind,
    terminal: Terminal,
    *,
    at: datetime,
    actor: Actor,
    receipt: str | None,
    **data: Json,
) -> AuditEvent:
    """Tell of something that the terminal's runner signed, where it could be asked."""
    event = terminal_event(kind, terminal, at=at, actor=actor, instance=terminal.instance)
    signed: dict[str, Json] = {"receipt": receipt} if receipt else {}
    return replace(event, data={**event.data, **data, **signed})


def refused_event(
    kind: AuditKind,
    runner: str,
    *,
    at: datetime,
    actor: Actor,
    correlation_id: str,
    **data: Json,
) -> AuditEvent:
    """Tell of a terminal that there is not."""
    return AuditEvent(
        kind=kind,
        at=at,
        actor=actor,
        plane=PLANE,
        correlation_id=correlation_id,
        target=runner,
        data=data,
    )


def told(ended: Ended | None) -> Json:
    """Say how a terminal ended; what was on its screen is not evidence's to keep."""
    if ended is None:
        return None
    return {
        "ending": ended.ending.value,
        "exitCode": ended.exit_code,
        "signal": ended.signal,
        "recordingHead": ended.recording_head,
        "recordingBytes": ended.recording_bytes,
        "outputBytes": ended.output_bytes,
    }
