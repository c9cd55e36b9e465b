"""A terminal's recording: written beside the loop, segment by segment, each closed for good.

A segment is one file; while it is written its name ends in `.open`. Closing it writes it to the
disk (fsync) and gives the hash chain's next head, which the control plane puts in evidence.
"""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.terminal.recording import FIRST_HEAD, Segment
from gatekeeper.terminals.protocol.asciicast import (
    MAX_SEGMENT_BYTES,
    MAX_SEGMENT_SECONDS,
    OPEN_SUFFIX,
    CastWriter,
    segment_name,
)
from gatekeeper.terminals.protocol.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO
    from pathlib import Path

    from gatekeeper.kernel.terminal.recording import Code

log = structlog.get_logger("gatekeeper.runner")

WRITE_EVERY_SECONDS: Final = 0.25
HIGH_WATER_BYTES: Final = 4_194_304
"""Of what waits to be written; the terminal waits for the disk above that."""
TOGETHER_SECONDS: Final = 0.001
"""Output within this time is one line."""
MAX_EVENT_BYTES: Final = 262_144
"""Of output in one line."""


class SegmentFiles:
    """Writes the files. Everything here blocks: it runs in a thread, one call at a time."""

    def __init__(self, folder: Path, header: bytes) -> None:
        self._folder = folder
        self._header = header
        self._file: FileIO | None = None
        self._hash = sha256()
        self._began = 0.0
        self._bytes = 0
        self.head = FIRST_HEAD
        self.number = 0
        self.total = 0

    def write(self, lines: bytes, at: float) -> Segment | None:
        """Write lines, and close the segment when it is full, or old."""
        if self._file is None:
            self._open(at)
        self._append(lines)
        if self._bytes >= MAX_SEGMENT_BYTES or at - self._began >= MAX_SEGMENT_SECONDS:
            return self.close()
        return None

    def close(self) -> Segment | None:
        """Close the segment that is open; None when there is none."""
        if self._file is None:
            return None
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        name = segment_name(self.number)
        (self._folder / (name + OPEN_SUFFIX)).rename(self._folder / name)
        _sync_folder(self._folder)
        self.head = self._hash.hexdigest()
        self.total += self._bytes
        return Segment(number=self.number, bytes=self._bytes, head=self.head)

    def _open(self, at: float) -> None:
        self.number += 1
        self._hash = sha256(bytes.fromhex(self.head))
        self._began, self._bytes = at, 0
        path = self._folder / (segment_name(self.number) + OPEN_SUFFIX)
        self._file = open(  # noqa: SIM115  # closed in `close`
            path, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600)
        )
        if self.number == 1:
            self._append(self._header)

    def _append(self, data: bytes) -> None:
        assert self._file is not None  # noqa: S101  # opened by the caller
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(data)
        self._bytes += len(data)


class Recording:
    """Takes events on the loop, and has them written in order."""

    def __init__(
        self,
        files: SegmentFiles,
        *,
        secrets: Sequence[str],
        closed: Callable[[Segment], None],
        failed: Callable[[], object],
        resumed: Callable[[], None],
    ) -> None:
        self._files = files
        self._cast = CastWriter()
        self._redactors = {"o": Redactor(secrets), "i": Redactor(secrets)}
        self._closed = closed
        self._failed = failed
        self._resumed = resumed
        self._events: list[tuple[float, Code, bytes]] = []
        self._waiting = 0
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._task = asyncio.create_task(self._work(), name="recording")
        self._ending = False
        self._status: int | None = None
        self.failed = False

    @property
    def full(self) -> bool:
        """Whether the terminal has to wait for the disk."""
        return self._waiting >= HIGH_WATER_BYTES

    @property
    def head(self) -> str | None:
        return self._files.head if self._files.number else None

    @property
    def size(self) -> int:
        return self._files.total

    def note(self, code: Code, data: bytes) -> None:
        """Record an event that happens now."""
        if self._ending or self.failed:
            return
        at = self._loop.time() - self._began
        last = self._events[-1] if self._events else None
        if (
            last
            and code == "o" == last[1]
            and at - last[0] < TOGETHER_SECONDS
            and len(last[2]) < MAX_EVENT_BYTES
        ):
            self._events[-1] = (last[0], code, last[2] + data)
        else:
            self._events.append((at, code, data))
        self._waiting += len(data)
        self._wake.set()

    async def close(self, status: int | None = None) -> None:
        """Write all there is, with the exit status if there is one; close the last segment."""
        self._ending = True
        self._status = status
        self._wake.set()
        await self._task

    async def _work(self) -> None:
        try:
            while not self._ending:
                await self._wake.wait()
                if not self._ending and not self.full:
                    await asyncio.sleep(WRITE_EVERY_SECONDS)
                self._wake.clear()
                await self._write()
            await self._write()
            self._tell(await asyncio.to_thread(self._finish))
        except Exception as error:
            log.exception("a recording cannot be written", error=type(error).__name__)
            self.failed = True
            self._events.clear()
            self._waiting = 0
            self._failed()

    async def _write(self) -> None:
        events, self._events = self._events, []
        written = self._waiting
        if not events:
            return
        self._tell(await asyncio.to_thread(self._lines, events))
        self._waiting -= written
        if not self.full:  # it may have been in between
            self._resumed()

    def _lines(self, events: list[tuple[float, Code, bytes]]) -> list[Segment]:
        closed = []
        for at, code, data in events:
            text = self._text(code, data)
            if text is None:
                continue
            segment = self._files.write(self._cast.event(at, code, text), at)
            if segment is not None:
                closed.append(segment)
        return closed

    def _text(self, code: Code, data: bytes) -> str | None:
        """Return what may be written of an event; None for nothing yet."""
        if code == "o":
            return self._redactors["o"].feed(self._cast.decode(data)) or None
        if code == "i":
            return self._redactors["i"].feed(data.decode(errors="replace")) or None
        return data.decode(errors="replace")

    def _finish(self) -> list[Segment]:
        at = self._loop.time() - self._began
        rest = self._redactors["o"].feed(self._cast.rest()) + self._redactors["o"].flush()
        typed = self._redactors["i"].flush()
        status = "" if self._status is None else str(self._status)
        last: tuple[tuple[Code, str], ...] = (("o", rest), ("i", typed), ("x", status))
        lines = b"".join(self._cast.event(at, code, text) for code, text in last if text)
        full = self._files.write(lines, at) if lines else None
        return [segment for segment in (full, self._files.close()) if segment is not None]

    def _tell(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._closed(segment)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
