"""A stand-in for a sandbox: a process group on a PTY, held by nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import termios
from typing import TYPE_CHECKING, Literal

from gatekeeper.terminals.errors import SandboxUnavailableError
from gatekeeper.terminals.runner.sandbox import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.terminals.runner.sandbox import Wanted


class PlainSandboxed:
    name: Literal["none"] = "none"
    complaint = ""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.uid = os.geteuid()
        self.steps_done = 0
        self.terminal_fd, self._slave = os.openpty()
        termios.tcsetwinsize(self.terminal_fd, (wanted.rows, wanted.columns))
        os.set_blocking(self.terminal_fd, False)
        self._heard: Callable[[int], None] = lambda _done: None
        self._process: subprocess.Popen[bytes]
        self._start(wanted.steps[0])
        self._task = asyncio.create_task(self._run())

    def on_step(self, heard: Callable[[int], None]) -> None:
        self._heard = heard

    async def wait(self) -> Exit:
        return await asyncio.shield(self._task)

    async def end(self) -> int:
        ended = 0
        if self._process.poll() is None:
            ended = 1
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self.wait()
        return ended

    def left(self) -> tuple[str, ...]:
        return ()

    def _start(self, step: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            step,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=self.wanted.work or "/",
            env={"HOME": "/nonexistent", **self.wanted.environment},
            start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509  # as a test may
        )

    async def _run(self) -> Exit:
        steps = self.wanted.steps
        try:
            while True:
                while (code := self._process.poll()) is None:
                    await asyncio.sleep(0.005)
                if code != 0 or self.steps_done == len(steps) - 1:
                    break
                self.steps_done += 1
                self._heard(self.steps_done)
                self._start(steps[self.steps_done])
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            os.close(self._slave)
        if code < 0:
            return Exit(code=None, signal=-code, step=self.steps_done)
        return Exit(code=code, signal=None, step=self.steps_done)


class PlainSandbox:
    name: Literal["none"] = "none"

    def __init__(self) -> None:
        self.refuses = False
        self.started: list[PlainSandboxed] = []

    async def start(self, wanted: Wanted) -> PlainSandboxed:
        if self.refuses:
            msg = "this sandbox does not start"
            raise SandboxUnavailableError(msg)
        self.started.append(PlainSandboxed(wanted))
        return self.started[-1]


def _own_terminal() -> None:
    import fcntl  # noqa: PLC0415  # between fork and exec

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
