"""The job that ends a terminal, at its time or before, and proves that nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.audit import SYSTEM, AuditKind
from gatekeeper.kernel.errors import ErrorCode, Failure, GatekeeperError
from gatekeeper.kernel.jobs import FINISHED, TryAgain
from gatekeeper.kernel.session import ENDING, SessionStatus
from gatekeeper.terminals.evidence import attested_event, terminal_event, told
from gatekeeper.terminals.model import Ended, Ending
from gatekeeper.terminals.moving import end_login, launcher_of
from gatekeeper.terminals.ports import Gone, Move

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.jobs import JobOutcome
    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import (
        Launcher,
        Logins,
        TerminalClaim,
        TerminalStore,
        TerminalUnit,
    )

NEVER_THERE: Final = Gone(existed=False, gone=True, processes_ended=0, ended=None)
"""The proof for one that never had a place: no order about it was ever sent."""


class Terminating:
    """Ends terminals where they run until each is proven gone; it never gives up.

    `cleaned` hears of each that is.
    """

    def __init__(
        self,
        *,
        store: TerminalStore,
        launchers: Mapping[str, Launcher],
        logins: Logins | None,
        cleaned: Callable[[Terminal], None] = lambda _terminal: None,
    ) -> None:
        self._store = store
        self._launchers = launchers
        self._logins = logins
        self._cleaned = cleaned

    async def __call__(self, claim: TerminalClaim) -> JobOutcome:
        terminal = await self._begin(claim)
        if terminal is None:
            return FINISHED
        try:
            gone, session = await self._end(terminal)
        except GatekeeperError as error:
            return await self._not_yet(terminal, Failure.of(error))
        if not gone.gone or gone.left:
            return await self._not_yet(terminal, _left(gone))
        await self._apply_gone(claim, gone, session)
        return FINISHED

    async def _begin(self, claim: TerminalClaim) -> Terminal | None:
        """Return a terminal that ends now; give back the job of another, or end it."""
        async with self._store.transaction() as unit:
            terminal = await unit.lock(claim.terminal)
            now = await unit.now()
            if terminal is not None and terminal.status is SessionStatus.READY:
                ends = terminal.expires_at or now
                if ends > now:
                    await unit.postpone(claim, ends)
                    return None
                return await _expire(unit, terminal, now)
            if terminal is not None and terminal.status in ENDING:
                return terminal
            await unit.settle(claim)
            return None

    async def _end(self, terminal: Terminal) -> tuple[Gone, SessionId | None]:
        """End its database login, which waits for no runner, and it at its runner.

        Both are tried, whichever of the two does not answer.
        """
        try:
            session = await end_login(self._logins, terminal)
        finally:
            gone = await self._end_at_runner(terminal)
        return gone, session

    async def _end_at_runner(self, terminal: Terminal) -> Gone:
        if not terminal.has_turn:
            return NEVER_THERE
        launcher = launcher_of(self._launchers, terminal)
        return await launcher.end(terminal.id, terminal.instance, _why(terminal))

    async def _not_yet(self, terminal: Terminal, why: Failure) -> JobOutcome:
        """Keep the terminal as what it is; say why once for each new reason."""
        async with self._store.transaction() as unit:
            current = await unit.lock(terminal.id)
            if current is not None and current.status in ENDING and current.error != why:
                noted = await unit.note_error(current, why)
                await unit.record(
                    terminal_event(
                        AuditKind.TERMINAL_CLEANUP_FAILED,
                        noted,
                        at=await unit.now(),
                        actor=SYSTEM,
                        code=why.code,
                        message=why.message,
                    )
                )
        return TryAgain(why)

    async def _apply_gone(
        self, claim: TerminalClaim, gone: Gone, session: SessionId | None
    ) -> None:
        async with self._store.transaction() as unit:
            current = await unit.lock(claim.terminal)
            if not await unit.settle(claim) or current is None or current.status not in ENDING:
                return
            ended = _merged(current, gone)
            cleaned = await unit.move(Move(terminal=current, to=SessionStatus.CLEANED, ended=ended))
            await unit.record(await _cleaned(unit, cleaned, gone, session))
            await self._wake_next(unit, cleaned)
        self._cleaned(cleaned)

    async def _wake_next(self, unit: TerminalUnit, ended: Terminal) -> None:
        """Let those start whose turn it is; launches are held off meanwhile, so none misses it."""
        launcher = self._launchers.get(ended.runner)
        if launcher is None or not ended.has_turn:
            return
        places = launcher.capacity - await unit.count_running(ended.runner)
        for waiting in await unit.next_waiting(ended.runner, max(places, 0)):
            await unit.schedule_launch(waiting)


async def _expire(unit: TerminalUnit, terminal: Terminal, now: datetime) -> Terminal:
    ended = Ended(ending=Ending.EXPIRED).with_more(terminal.ended)
    expired = await unit.move(Move(terminal=terminal, to=SessionStatus.EXPIRED, ended=ended))
    await unit.record(
        terminal_event(AuditKind.TERMINAL_EXPIRED, expired, at=now, actor=SYSTEM, ended=told(ended))
    )
    return expired


def _merged(terminal: Terminal, gone: Gone) -> Ended | None:
    return gone.ended if terminal.ended is None else terminal.ended.with_more(gone.ended)


def _why(terminal: Terminal) -> str:
    """Return the word of `wire.runner.EndOrder` for how it ends."""
    match terminal.status:
        case SessionStatus.EXPIRED:
            return "expired"
        case SessionStatus.REVOKED:
            return "revoked"
        case SessionStatus.FAILED:
            return "launch_failed"
    idle = terminal.ended is not None and terminal.ended.ending is Ending.IDLE
    return "idle" if idle else "exited"


def _left(gone: Gone) -> Failure:
    left = ", ".join(gone.left) or "its runner does not say what"
    return Failure(
        code=ErrorCode.REVOCATION_INCOMPLETE, message=f"still there: {left}", retryable=True
    )


async def _cleaned(
    unit: TerminalUnit, terminal: Terminal, gone: Gone, session: SessionId | None
) -> AuditEvent:
    lag = (terminal.cleaned_at or await unit.now()) - (terminal.ended_at or await unit.now())
    return attested_event(
        AuditKind.TERMINAL_CLEANED,
        terminal,
        at=await unit.now(),
        actor=SYSTEM,
        existed=gone.existed,
        processesEnded=gone.processes_ended,
        lagMs=max(0, round(lag.total_seconds() * 1000)),
        sessionEnded=session,
        receipt=gone.signed,
        ended=told(gone.ended),
    )
