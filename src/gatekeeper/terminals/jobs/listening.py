"""The job that looks whether a runner is still heard, and gives up what a silent one held.

It comes back for ever, one for each runner. A silence counts only while somebody listened: each
look is noted in the store, and after a gap between two of them (no control plane ran, or the
store was away) the counting begins anew. A runner that is not heard is asked, before anything
ends: its way to us may be broken, and ours to it not.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.jobs import FINISHED
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.losing import Losing, lose
from gatekeeper.terminals.moving import end_login
from gatekeeper.terminals.settings import SILENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatekeeper.kernel.jobs import JobOutcome
    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import Launcher, Logins, RunnerClaim, TerminalStore

EVERY: Final = timedelta(seconds=5)
ABSENCE: Final = timedelta(seconds=30)
"""Looks that are further apart had nobody who listened between them. Longer than a look takes
that waits for a runner's answer, and short enough to leave a runner the rest of `SILENCE`."""


class Listening:
    """Looks after runners, one job each."""

    def __init__(
        self, *, store: TerminalStore, launchers: Mapping[str, Launcher], logins: Logins | None
    ) -> None:
        self._store = store
        self._launchers = launchers
        self._logins = logins
        self._losing = Losing(store=store, launchers=launchers)

    async def schedule(self) -> None:
        """Make the job of each runner, or find that it is there."""
        async with self._store.transaction() as unit:
            for name in self._launchers:
                await unit.schedule_listening(name)

    async def __call__(self, claim: RunnerClaim) -> JobOutcome:
        runner = claim.runner
        silence = await self._silence(runner)
        held = await self._store.on_runner(runner)
        if silence >= SILENCE:
            await self._look_after(runner, [t for t in held if t.status is SessionStatus.READY])
        async with self._store.transaction() as unit:
            if not held and runner not in self._launchers:  # taken out of the settings
                await unit.forget_runner(runner)
                await unit.settle(claim)
            else:
                await unit.postpone(claim, await unit.now() + EVERY)
        return FINISHED

    async def _silence(self, runner: str) -> timedelta:
        async with self._store.transaction() as unit:
            return await unit.listen_for(runner, ABSENCE)

    async def _look_after(self, runner: str, ready: Sequence[Terminal]) -> None:
        """End all that was ready on a runner that is not there; of one that is, what is gone."""
        if not ready:
            return
        if await self._losing.ask(ready[0]) != "nothing":
            await self._losing.give_up(ready)
            return
        for terminal in ready:
            async with self._store.transaction() as unit:
                silence = await unit.listen_for(runner, ABSENCE)
                if silence < SILENCE:  # it was heard while we asked
                    return
                await lose(unit, terminal, silentMs=round(silence.total_seconds() * 1000))
            # The job of each end does this too, but it also waits for the runner that is away.
            await end_login(self._logins, terminal)
