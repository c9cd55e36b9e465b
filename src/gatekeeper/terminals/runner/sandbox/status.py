"""The pipe on which a sandbox tells that it started, which steps are done, and of a signal.

What comes in is bounded, and no more than a hint: something inside could write there.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.runner.sandbox.steps import SIGNALLED, STARTED, STEP_DONE

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_COMPLAINT_CHARS: Final = 500
MAX_LINE_BYTES: Final = 4_096


class StatusPipe:
    """Reads one pipe until it ends, on a loop."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.steps_done = 0
        self.started = False
        self.heard = asyncio.Event()
        """Set when it started, or ended without having."""
        self.signalled = False
        """Whether a signal ended it; then its exit code is that signal's number."""
        self.complaint = ""
        self.on_step: Callable[[int], None] | None = None
        self._fd = fd
        self._loop = loop
        self._open = True
        self._rest = b""
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Read what is there, and no more."""
        if self._open:
            self._read()
        if self._open:
            self._stop()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, MAX_LINE_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._stop()
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-MAX_LINE_BYTES:]
        for line in lines:
            self._heard(line)

    def _heard(self, line: bytes) -> None:
        if line == STARTED:
            self.started = True
            self.heard.set()
        elif line == STEP_DONE:
            self.steps_done += 1
            if self.on_step is not None:
                self.on_step(self.steps_done)
        elif self.started:
            self.signalled = self.signalled or line.startswith(SIGNALLED)
        else:
            text = line.decode("utf-8", "backslashreplace")
            self.complaint = f"{self.complaint} {text}".strip()[:MAX_COMPLAINT_CHARS]

    def _stop(self) -> None:
        self._open = False
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
