"""Child processes: started, watched, started again when they die, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from gatekeeper.bootstrap import aliases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

STOP_SECONDS: Final = 10.0
RESTART_SECONDS: Final = 0.5
_PR_SET_PDEATHSIG: Final = 1


class Child:
    """One Gatekeeper process of the local stack, restarted whenever it ends by itself."""

    def __init__(
        self, *, name: str, arguments: Sequence[str], log: Path, died: Callable[[str, int], None]
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "gatekeeper", *arguments]
        self._log = log
        self._died = died
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def stop(self) -> None:
        """Ask the process to stop, and make it after `STOP_SECONDS`."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(os.environ),
                # Ctrl-C at the terminal is for the parent alone; it stops us in order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    async def _watch(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            self._died(self.name, code)
            await asyncio.sleep(RESTART_SECONDS)
            await self._spawn()


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would change a setting of the stack in one of its processes alone."""
    overrides = {*aliases.AGENT, *aliases.CONTROL_PLANE} - {"LOG_LEVEL"}
    return {name: value for name, value in ours.items() if name not in overrides}


def _die_with_parent() -> None:
    """Have the kernel stop this process when its parent is gone, however that ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
