"""The master side of a PTY on an event loop: nothing here ever blocks.

One read gives at most 4 KiB, so it is read until it is empty or `READ_BYTES` have come, and then
others have their turn. What is typed faster than the command reads waits, up to a limit.
"""

from __future__ import annotations

import errno
import os
import termios
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

READ_BYTES: Final = 65_536
"""At one go."""
MAX_WAITING_BYTES: Final = 262_144
"""Of input that the command has not read yet."""
LAST_BYTES: Final = 655_360
"""Read at most when all that wrote is gone: what the kernel buffers of one terminal."""
_NOT_NOW: Final = frozenset({errno.EAGAIN, errno.EINTR})


class Pty:
    """Reads and writes a terminal. `heard` gets what it wrote, and may pause it."""

    def __init__(
        self, fd: int, loop: asyncio.AbstractEventLoop, heard: Callable[[bytes], None]
    ) -> None:
        self._fd = fd
        self._loop = loop
        self._heard = heard
        self._waiting = bytearray()
        self._reading = False
        self._over = False
        """Nobody has the other side open; only the end of the command comes now."""
        os.set_blocking(fd, False)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def read_on(self) -> None:
        if not self._reading and not self._over:
            self._reading = True
            self._loop.add_reader(self._fd, self._read)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def write(self, data: bytes) -> bool:
        """Type; False when too much waits already, and nothing of it was taken."""
        if len(self._waiting) + len(data) > MAX_WAITING_BYTES:
            return False
        if self._waiting:
            self._waiting += data
            return True
        rest = data[self._try_write(data) :]
        if rest and not self._over:
            self._waiting += rest
            self._loop.add_writer(self._fd, self._write_on)
        return True

    def resize(self, columns: int, rows: int) -> None:
        """Change the size; the kernel tells the processes in the foreground."""
        if not self._over:
            termios.tcsetwinsize(self._fd, (rows, columns))

    def drain(self) -> None:
        """Read what is still there, after all that wrote is gone."""
        left = LAST_BYTES
        while left > 0 and (data := self._take(READ_BYTES)):
            left -= len(data)
            self._heard(data)

    def close(self) -> None:
        self.pause()
        if self._waiting:
            self._waiting.clear()
            self._loop.remove_writer(self._fd)
        self._over = True
        os.close(self._fd)

    def _read(self) -> None:
        data = self._take(READ_BYTES)
        if data:
            self._heard(data)
        if self._over:
            self.pause()

    def _take(self, most: int) -> bytes:
        parts, size = [], 0
        while size < most:
            try:
                part = os.read(self._fd, most - size)
            except OSError as error:
                self._over = self._over or error.errno not in _NOT_NOW
                break
            if not part:
                self._over = True
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _try_write(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._fd, data)
        except OSError as error:
            self._over = self._over or error.errno not in _NOT_NOW
            return 0

    def _write_on(self) -> None:
        del self._waiting[: self._try_write(self._waiting)]
        if self._over:
            self._waiting.clear()
        if not self._waiting:
            self._loop.remove_writer(self._fd)
