"""The job that starts a pending terminal when there is a place for it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.audit import SYSTEM, AuditKind, timestamp
from gatekeeper.kernel.errors import ErrorCode, Failure, GatekeeperError, Refusal
from gatekeeper.kernel.jobs import FINISHED, TryAgain
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.errors import RunnerRejectedError
from gatekeeper.terminals.evidence import attested_event, terminal_event
from gatekeeper.terminals.model import Stage
from gatekeeper.terminals.moving import end_login, fail, launcher_of, tell_ended
from gatekeeper.terminals.ports import Launch, Move
from gatekeeper.terminals.settings import LAUNCH_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from gatekeeper.kernel.jobs import JobOutcome
    from gatekeeper.terminals.model import Ended, Profile, Terminal
    from gatekeeper.terminals.ports import (
        Launched,
        Launcher,
        Logins,
        TerminalClaim,
        TerminalStore,
        TerminalUnit,
    )

LOOK_AGAIN: Final = timedelta(seconds=5)
"""How long one that waits for a place trusts that somebody will wake it."""


class Launching:
    """Starts terminals, a place each, in a fair order. `launched` hears of each that is ready."""

    def __init__(
        self,
        *,
        store: TerminalStore,
        launchers: Mapping[str, Launcher],
        profiles: Mapping[str, Profile],
        logins: Logins | None,
        launched: Callable[[Terminal], None] = lambda _terminal: None,
    ) -> None:
        self._store = store
        self._launchers = launchers
        self._profiles = profiles
        self._logins = logins
        self._launched = launched

    async def __call__(self, claim: TerminalClaim) -> JobOutcome:
        terminal = await self._take_turn(claim)
        if terminal is None:
            return FINISHED
        try:
            if terminal.status is not SessionStatus.PENDING:
                return await self._undo(claim, terminal)
            return await self._launch(claim, terminal)
        except GatekeeperError as error:
            if error.retryable:
                return TryAgain(Failure.of(error))
            return await self._give_up(claim, terminal, Failure.of(error))

    async def _take_turn(self, claim: TerminalClaim) -> Terminal | None:
        """Return a terminal that has a place, or one that is not wanted any more.

        None: it waits for its turn, or there is nothing to do.
        """
        seen = await self._store.get(claim.terminal)
        if seen is not None and not _waits(seen):
            return seen
        async with self._store.transaction() as unit:
            running = 0 if seen is None else await unit.count_running(seen.runner)
            terminal = await unit.lock(claim.terminal)
            if terminal is None:
                await unit.settle(claim)
                return None
            if not _waits(terminal):
                return terminal
            now = await unit.now()
            place = await unit.queue_place(terminal.id) or 0
            if running + place >= self._capacity(terminal):
                await unit.postpone(claim, now + LOOK_AGAIN)
                return None
            # Committed before any order is sent: from here on something may be at the runner.
            await unit.stamp(terminal.id, {Stage.SCHEDULED: now})
            return await unit.lock(terminal.id)

    def _capacity(self, terminal: Terminal) -> int:
        launcher = self._launchers.get(terminal.runner)
        return 1 if launcher is None else launcher.capacity

    async def _launch(self, claim: TerminalClaim, terminal: Terminal) -> JobOutcome:
        scheduled = terminal.stages[Stage.SCHEDULED]
        async with self._store.transaction() as unit:
            now = await unit.now()
        expires_at = scheduled + terminal.ttl
        if now > scheduled + LAUNCH_DEADLINE or now >= expires_at:
            return await self._give_up(claim, terminal, terminal.error or _too_late())
        launcher = launcher_of(self._launchers, terminal)
        try:
            launched = await launcher.launch(
                Launch(
                    terminal=terminal,
                    profile=self._profile(terminal),
                    seconds_left=(expires_at - now).total_seconds(),
                )
            )
            if terminal.database is not None:
                await self._hand_over_login(launcher, terminal, launched)
        except GatekeeperError as error:
            if error.retryable:
                await self._note(terminal, Failure.of(error))
            raise
        return await self._apply(claim, terminal, launched, expires_at)

    def _profile(self, terminal: Terminal) -> Profile:
        found = self._profiles.get(terminal.profile)
        if found is None:
            msg = f"profile {terminal.profile!r} is no longer configured"
            raise GatekeeperError(ErrorCode.VALIDATION_ERROR, msg)
        return found

    async def _hand_over_login(
        self, launcher: Launcher, terminal: Terminal, launched: Launched
    ) -> None:
        """Have a login made for the password that the runner chose, and lead the runner to it."""
        if self._logins is None or launched.verifier is None:
            msg = "a database login was asked for, and the runner made no password for it"
            raise RunnerRejectedError(msg)
        if terminal.database_session is not None and not launched.already:
            msg = "the runner was restarted, and with it the password of the database login went"
            raise RunnerRejectedError(msg)
        login = await self._logins.issue(terminal, launched.verifier)
        if isinstance(login, Refusal):
            detail, later = "; ".join((login.detail, *login.reasons)), login.retry_after is not None
            raise GatekeeperError(login.code, detail, retryable=later)
        # Known to the store before the runner: whatever ends the terminal ends the login.
        async with self._store.transaction() as unit:
            current = await unit.lock(terminal.id)
            if current is not None and current.database_session is None:
                bound = await unit.bind(current, login.session)
                await unit.record(
                    terminal_event(
                        AuditKind.TERMINAL_LOGIN_BOUND,
                        bound,
                        at=await unit.now(),
                        actor=SYSTEM,
                        sessionId=login.session,
                        username=login.username,
                    )
                )
        await launcher.bind(terminal.id, terminal.instance, login)

    async def _apply(
        self, claim: TerminalClaim, terminal: Terminal, launched: Launched, expires_at: datetime
    ) -> JobOutcome:
        """Make a terminal ready, unless it was ended meanwhile."""
        async with self._store.transaction() as unit:
            current = await unit.lock(terminal.id)
            wanted = current is not None and current.status is SessionStatus.PENDING
            if current is not None and wanted:
                if not await unit.settle(claim):
                    return FINISHED
                current = await _make_ready(unit, current, launched, expires_at)
        if current is not None and not wanted:
            return await self._undo(claim, current)
        if current is not None:
            self._launched(current)
        return FINISHED

    async def _undo(self, claim: TerminalClaim, terminal: Terminal) -> JobOutcome:
        """End a login that came too late; the job of every ending ends the terminal itself."""
        if terminal.status is not SessionStatus.READY:
            await end_login(self._logins, terminal)
        async with self._store.transaction() as unit:
            await unit.settle(claim)
        return FINISHED

    async def _give_up(self, claim: TerminalClaim, terminal: Terminal, why: Failure) -> JobOutcome:
        """Fail it, unless its runner told how it ended: then it was there, whoever answered."""
        async with self._store.transaction() as unit:
            current = await unit.lock(terminal.id)
            if not await unit.settle(claim):
                return FINISHED
            if current is None or current.status is not SessionStatus.PENDING:
                return FINISHED
            if current.ended is None:
                await fail(unit, current, why)
            else:
                await _pass_to_its_end(unit, current, current.ended)
        return FINISHED

    async def _note(self, terminal: Terminal, why: Failure) -> None:
        """Keep why it takes so long: it is what a terminal fails of that never started."""
        async with self._store.transaction() as unit:
            current = await unit.lock(terminal.id)
            if current is not None and current.status is SessionStatus.PENDING:
                await unit.note_error(current, why)


async def _make_ready(
    unit: TerminalUnit, terminal: Terminal, launched: Launched, expires_at: datetime
) -> Terminal:
    """Move to ready; and on to its end, when that was told before we heard of its start."""
    ended = terminal.ended
    move = Move(
        terminal=terminal,
        to=SessionStatus.READY,
        expires_at=expires_at,
        address=launched.address,
        sandbox=launched.sandbox,
    )
    ready = await unit.move(move)
    now = await unit.now()
    await unit.stamp(ready.id, {Stage.STARTED: now})
    await unit.schedule_end(ready, expires_at)
    await unit.record(
        attested_event(
            AuditKind.TERMINAL_READY,
            ready,
            at=now,
            actor=SYSTEM,
            sandbox=launched.sandbox,
            expiresAt=timestamp(expires_at),
            receipt=launched.signed,
        )
    )
    return ready if ended is None else await tell_ended(unit, ready, ended)


async def _pass_to_its_end(unit: TerminalUnit, terminal: Terminal, ended: Ended) -> None:
    """End one whose launch was never answered, so that no runner's word is there for "ready"."""
    expires_at = terminal.stages[Stage.SCHEDULED] + terminal.ttl
    move = Move(terminal=terminal, to=SessionStatus.READY, expires_at=expires_at)
    await tell_ended(unit, await unit.move(move), ended)


def _waits(terminal: Terminal) -> bool:
    return terminal.status is SessionStatus.PENDING and not terminal.has_turn


def _too_late() -> Failure:
    return Failure(
        code=ErrorCode.JOB_EXPIRED,
        message=f"it was not started within {LAUNCH_DEADLINE.total_seconds():.0f} s",
        retryable=True,
    )
