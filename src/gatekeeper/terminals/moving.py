"""Steps that more than one place takes: moves of a terminal, each with its job and its evidence,
and the way to whoever holds it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.audit import SYSTEM, AuditKind
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.errors import RunnerUnreachableError
from gatekeeper.terminals.evidence import attested_event, terminal_event, told
from gatekeeper.terminals.model import Ended, Ending
from gatekeeper.terminals.ports import Move

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.kernel.audit import Json
    from gatekeeper.kernel.errors import Failure
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import Launcher, Logins, TerminalUnit


_TOLD: Final[Mapping[Ending, tuple[SessionStatus, AuditKind]]] = MappingProxyType(
    {
        Ending.EXPIRED: (SessionStatus.EXPIRED, AuditKind.TERMINAL_EXPIRED),
        Ending.REVOKED: (SessionStatus.REVOKED, AuditKind.TERMINAL_REVOKED),
    }
)
"""What an ending is that is not the command's own, but its runner's doing or a moderator's."""


async def fail(unit: TerminalUnit, terminal: Terminal, why: Failure) -> Terminal:
    """Fail a pending terminal; what there may be of it is undone like any other."""
    ended = Ended(ending=Ending.LAUNCH_FAILED).with_more(terminal.ended)
    move = Move(terminal=terminal, to=SessionStatus.FAILED, error=why, ended=ended)
    failed = await unit.move(move)
    now = await unit.now()
    await unit.schedule_end(failed, now)
    await unit.record(
        terminal_event(
            AuditKind.TERMINAL_FAILED,
            failed,
            at=now,
            actor=SYSTEM,
            code=why.code,
            message=why.message,
        )
    )
    return failed


async def tell_ended(
    unit: TerminalUnit, terminal: Terminal, ended: Ended, **more: Json
) -> Terminal:
    """End a ready terminal whose command came to its end; the proof is the job's.

    `more` is what the evidence is told beside how it ended.
    """
    own = (SessionStatus.ENDED, AuditKind.TERMINAL_ENDED)
    to, kind = _TOLD.get(ended.ending, own)
    moved = await unit.move(Move(terminal=terminal, to=to, ended=ended))
    now = await unit.now()
    await unit.schedule_end(moved, now)
    event = attested_event(
        kind, moved, at=now, actor=SYSTEM, receipt=ended.signed, ended=told(ended), **more
    )
    await unit.record(event)
    return moved


async def end_login(logins: Logins | None, terminal: Terminal) -> SessionId | None:
    """Have a terminal's database login ended, also one that nobody heard of; return which."""
    if terminal.database is None or logins is None:
        return None
    session = terminal.database_session or await logins.find(terminal)
    if session is not None:
        await logins.end(session, terminal.correlation_id)
    return session


def launcher_of(launchers: Mapping[str, Launcher], terminal: Terminal) -> Launcher:
    """Find who holds a terminal. Raises `RunnerUnreachableError` when it was taken away."""
    found = launchers.get(terminal.runner)
    if found is None:
        msg = f"runner {terminal.runner!r} is no longer configured; add it again"
        raise RunnerUnreachableError(msg)
    return found
