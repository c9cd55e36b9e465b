"""Giving terminals up that their runner does not hold any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.errors import RunnerRejectedError, RunnerUnreachableError
from gatekeeper.terminals.model import Ended, Ending
from gatekeeper.terminals.moving import tell_ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from gatekeeper.kernel.audit import Json
    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import Launcher, TerminalStore, TerminalUnit

    Heard = Literal["held", "gone", "nothing"]


class Losing:
    """Asks runners for terminals, and ends those that are gone."""

    def __init__(self, *, store: TerminalStore, launchers: Mapping[str, Launcher]) -> None:
        self._store = store
        self._launchers = launchers

    async def ask(self, terminal: Terminal) -> Heard:
        """Ask a runner for a terminal; `nothing` when it was not heard, or is not believed."""
        launcher = self._launchers.get(terminal.runner)
        if launcher is None:
            return "nothing"
        try:
            await launcher.screen(terminal.id, terminal.instance)
        except (RunnerUnreachableError, RunnerRejectedError):
            return "nothing"
        except GatekeeperError as error:
            return "gone" if error.code is ErrorCode.NOT_FOUND else "held"
        return "held"

    async def give_up(self, missing: Sequence[Terminal]) -> None:
        """End what the runner does not have, and says so when it is asked."""
        heard = await asyncio.gather(*(self.ask(terminal) for terminal in missing))
        for terminal, answer in zip(missing, heard, strict=True):
            if answer == "gone":
                async with self._store.transaction() as unit:
                    await lose(unit, terminal)


async def lose(unit: TerminalUnit, terminal: Terminal, **more: Json) -> None:
    """End a terminal, if it is ready still, as one whose runner lost it."""
    current = await unit.lock(terminal.id)
    if current is not None and current.status is SessionStatus.READY:
        await tell_ended(unit, current, Ended(ending=Ending.RUNNER_LOST), **more)
