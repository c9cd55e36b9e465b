"""A transport that keeps what is written, for protocols under test in this process."""

from __future__ import annotations

import asyncio


class FakeTransport(asyncio.Transport):
    """Reads when told to, as a socket does; `peername` is who is connected."""

    def __init__(self, peername: object = ("10.0.0.1", 40000)) -> None:
        super().__init__({"peername": peername})
        self.written = bytearray()
        self.reading = True
        self.finished = False
        """Whether the sending side is closed."""
        self.closed = False
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.finished
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.finished = self.closed = True

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
