"""Launchers, each with what a test needs to disturb the world behind it.

Another launcher (a cluster's) comes in by a rig of its own and a row in `RIGS`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

from runner_rig import PLANE, Rig

from fakes.launcher import FakeLauncher
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.adapters.launchers.local import LocalLauncher
from gatekeeper.terminals.model import Ended, Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import Launcher

CAPACITY: Final = 3
RANDOM: Final = SystemRandom()


class LauncherRig(Protocol):
    """A launcher whose world can go away and come back, with nothing that it held."""

    @property
    def launcher(self) -> Launcher: ...

    async def finish(self, terminal: Terminal, code: int) -> None:
        """Have the command end by itself."""
        ...

    async def stop(self) -> None: ...

    async def start(self) -> None: ...


class FakeRig:
    def __init__(self) -> None:
        self.launcher = FakeLauncher(capacity=CAPACITY)

    async def finish(self, terminal: Terminal, code: int) -> None:
        self.launcher.finish(terminal.instance, Ended(ending=Ending.EXITED, exit_code=code))

    async def stop(self) -> None:
        self.launcher.reachable = False
        self.launcher.die()

    async def start(self) -> None:
        self.launcher.reachable = True


class RunnerRig:
    """The runner of one machine, on its unix socket; its commands run in no sandbox."""

    def __init__(self, runner: Rig) -> None:
        self._runner = runner
        self.launcher = LocalLauncher(
            name="plane",
            key=PLANE,
            runner="local",
            runner_key=runner.runner_key.public_key(),
            address=f"unix:{runner.path}",
            capacity=CAPACITY,
            clock=SystemClock(),
            random=RANDOM,
        )

    async def finish(self, terminal: Terminal, code: int) -> None:
        await self.launcher.send_input(terminal.id, terminal.instance, f"exit {code}\n")
        ended = await self._runner.plane.until(terminal.instance, "ended")
        assert ended.ended.exit_code == code

    async def stop(self) -> None:
        await self._runner.stop()

    async def start(self) -> None:
        del self._runner.server
        await self._runner.start()


@asynccontextmanager
async def fake() -> AsyncIterator[LauncherRig]:
    yield FakeRig()


@asynccontextmanager
async def local() -> AsyncIterator[LauncherRig]:
    async with Rig(capacity=CAPACITY) as runner:
        rig = RunnerRig(runner)
        try:
            yield rig
        finally:
            await rig.launcher.close()


RIGS: Final[dict[str, Callable[[], AbstractAsyncContextManager[LauncherRig]]]] = {
    "fake": fake,
    "local": local,
}
