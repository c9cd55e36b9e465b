"""Terminals in sandboxes, for tests: run something inside, and see what came of it."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import pytest

from gatekeeper.terminals.runner.sandbox import Exit, Wanted
from gatekeeper.terminals.runner.sandbox.bubblewrap import Bubblewrap
from gatekeeper.terminals.runner.sandbox.cgroups import Cgroups
from gatekeeper.terminals.runner.sandbox.choice import report
from gatekeeper.terminals.runner.sandbox.landlock import Landlock
from gatekeeper.terminals.runner.sandbox.owners import Owners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from gatekeeper.terminals.runner.sandbox import Sandbox
    from gatekeeper.terminals.runner.sandbox.held import Held

PATIENCE_SECONDS: Final = 20.0
MEBIBYTE: Final = 1_048_576
PYTHON: Final = "/usr/bin/python3"
"""The host's own, which is there inside too: to make system calls with."""
CALLS: Final = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "done"
"""

_numbers = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    text: str
    exit: Exit

    @property
    def words(self) -> list[str]:
        return self.text.split()


class Screen:
    """Reads all that a terminal says."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.data = b""
        self._more = asyncio.Event()
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(held.terminal_fd, self._read)

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        os.write(self.held.terminal_fd, text.encode())

    async def until(self, wanted: str | Callable[[str], bool]) -> str:
        """Read until that is to be seen."""
        seen = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not seen(self.text):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pytest.fail(f"{wanted!r} was not to be seen in {self.text!r}")
        return self.text

    async def all(self) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._over.wait()
        return self.text

    def close(self) -> None:
        self._loop.remove_reader(self.held.terminal_fd)
        os.close(self.held.terminal_fd)

    def _read(self) -> None:
        try:
            data = os.read(self.held.terminal_fd, 65_536)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody holds the other side any more
            data = b""
        if not data:
            self._loop.remove_reader(self.held.terminal_fd)
            self._over.set()
        self.data += data
        self._more.set()


class Sandboxes:
    """Starts terminals of one tier, and ends what a test left."""

    def __init__(self, tier: Sandbox, folder: Path) -> None:
        self.tier = tier
        self._folder = folder

    @property
    def is_bubblewrap(self) -> bool:
        return self.tier.name == "bubblewrap"

    def wanted(self, *steps: tuple[str, ...], **changes: Any) -> Wanted:
        name = f"test-{os.getpid()}-{next(_numbers)}"
        doors = self._folder / f"{name}-doors"
        doors.mkdir()
        wanted = Wanted(
            terminal=name,
            steps=steps,
            environment={"LC_ALL": "C.UTF-8"},
            columns=80,
            rows=24,
            network=False,
            memory_bytes=128 * MEBIBYTE,
            processes=64,
            cpu_percent=100,
            disk_bytes=4 * MEBIBYTE,
            work=None,
            doors=doors,
        )
        return replace(wanted, **changes)

    @asynccontextmanager
    async def running(self, *command: str, **changes: Any) -> AsyncIterator[Screen]:
        held: Any = await self.tier.start(self.wanted(command, **changes))
        screen = Screen(held)
        try:
            yield screen
        finally:
            await held.end()
            screen.close()
            assert held.left() == ()

    async def run(self, *command: str, **changes: Any) -> Outcome:
        async with self.running(*command, **changes) as screen:
            ended = await asyncio.wait_for(screen.held.wait(), PATIENCE_SECONDS)
            return Outcome(text=await screen.all(), exit=ended)

    async def shell(self, script: str, *arguments: str, **changes: Any) -> Outcome:
        return await self.run("sh", "-c", script, "sh", *arguments, **changes)

    async def python(self, code: str, *arguments: str, **changes: Any) -> Outcome:
        return await self.run(PYTHON, "-I", "-c", CALLS + code, *arguments, **changes)


def make_tier(name: str) -> Sandbox:
    """Return a tier; skip the test where it does not work on this machine."""
    made = {one.name: one for one in report()}[name]  # type: ignore[index]
    if not made.works:
        pytest.skip(f"{name}: {made.detail}")
    if name == "bubblewrap":
        return Bubblewrap(cgroups=Cgroups(), owners=Owners())
    return Landlock(cgroups=Cgroups(), owners=Owners())
