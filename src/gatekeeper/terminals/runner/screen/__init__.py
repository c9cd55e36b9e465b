"""What a terminal shows, kept from its raw output, and made out only when somebody looks.

emulator.py   the terminal: sequences in        state.py      what they change
grid.py       rows of cells                     pen.py        colours and the like
snapshot.py   the whole as bytes that draw it

Making it out takes far longer than passing the bytes on. So they wait, and are taken in beside the
loop; of a flood only the end is, and of what is left out the modes that it set. Each terminal has
an allowance of CPU time for it: two bytes can ask for a new screen of half a million cells.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.protocol.redaction import redacted_lines
from gatekeeper.terminals.runner.screen.emulator import Emulator
from gatekeeper.terminals.runner.screen.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_WAITING_BYTES: Final = 262_144
"""More than this is a flood, of which nobody read the beginning."""
KEPT_BYTES: Final = 65_536
"""Of a flood: more than most screens hold."""
MOST_SETTINGS: Final = 256
"""Remembered of what was left out."""
CPU_PART: Final = 0.1
"""Of a core, for the picture of one terminal: a second of work is made up for in ten."""
CPU_SECONDS: Final = 1.0
"""Of that at once, after a calm. What would take longer is left out."""
PAUSE: Final = 3
"""After a drawing there is none for so many times as long as it took: one of half a million cells,
each with a colour of its own, takes a third of a second."""
_SETTING: Final = re.compile(
    rb"\x1b\[\?[0-9;]{0,64}[hl]|\x1b\[!p|\x1bc|\x1b[=>]|\x1b\[[0-9]{0,4} q"
    rb"|\x1b[()][0-9A-Za-z]|[\x0e\x0f]|\x1b\][02];[^\x07\x1b]{0,1000}(?:\x07|\x1b\\)|\x1b\[[0-9;]{0,64}[mr]"
)
"""What changes how everything after it is read."""
_SAFE: Final = re.compile(rb"[\n\x1b]")


@dataclass(frozen=True, slots=True)
class _Size:
    columns: int
    rows: int


@dataclass(slots=True)
class _Skipped:
    """A part of a flood: the last word of each kind of setting in it, in order."""

    settings: dict[bytes, None]


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen at an offset."""

    offset: int
    columns: int
    rows: int
    lines: tuple[str, ...]
    """Without secrets: they are kept, and told to programs."""
    drawing: bytes
    """For viewers, who see what the command writes."""


class _Allowance:
    """The CPU time that may be spent now; it grows as time goes by."""

    def __init__(self) -> None:
        self._left = CPU_SECONDS
        self._at = time.monotonic()

    def until(self) -> float:
        """Return up to which CPU time of this thread there is something to spend."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * CPU_PART, CPU_SECONDS)
        self._at = now
        return time.thread_time() + self._left

    def spend(self, until: float) -> None:
        self._left = until - time.thread_time()


class Screen:
    """Takes output on the loop; makes out the picture in a thread."""

    def __init__(self, columns: int, rows: int, *, secrets: Sequence[str] = ()) -> None:
        self._emulator = Emulator(columns, rows)
        self._secrets = secrets
        self._allowance = _Allowance()
        self._waiting: list[bytearray | _Size | _Skipped] = []
        self._offset = self._caught_up = 0
        self._lock = asyncio.Lock()
        self._looking: asyncio.Task[Look] | None = None
        self._next_at = 0.0

    def write(self, data: bytes) -> None:
        self._offset += len(data)
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, bytearray):
            last = bytearray()
            self._waiting.append(last)
        last += data
        if len(last) > MOST_WAITING_BYTES:
            self._skip(last)

    def resize(self, columns: int, rows: int) -> None:
        if self._waiting and isinstance(self._waiting[-1], _Size):
            self._waiting.pop()
        self._waiting.append(_Size(columns, rows))

    async def look(self) -> Look:
        """Return what is to be seen now. Whoever asks before it is drawn gets the same."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_soon(), name="draws a screen")
        return await asyncio.shield(self._looking)

    async def _look_soon(self) -> Look:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._next_at - loop.time())
        async with self._lock:
            self._looking = None
            waiting, self._waiting = self._waiting, []
            began = loop.time()
            try:
                return await asyncio.to_thread(self._look, waiting, self._offset)
            finally:
                self._next_at = loop.time() + PAUSE * (loop.time() - began)

    async def catch_up(self) -> None:
        """Take in what waits: of what comes slowly, nothing is ever left out.

        Called every second. A flood is not taken in before somebody looks, or it is over.
        """
        came, self._caught_up = self._offset - self._caught_up, self._offset
        if came > MOST_WAITING_BYTES or not self._waiting:
            return
        async with self._lock:
            waiting, self._waiting = self._waiting, []
            await asyncio.to_thread(self._take_in, waiting)

    def _look(self, waiting: list[bytearray | _Size | _Skipped], offset: int) -> Look:
        self._take_in(waiting)
        emulator = self._emulator
        lines = redacted_lines(emulator.lines(), self._secrets)
        # What has begun and not ended is not in the picture: it is to be sent with what follows.
        offset -= emulator.pending
        return Look(offset, emulator.columns, emulator.height, lines, snapshot(emulator))

    def _take_in(self, waiting: list[bytearray | _Size | _Skipped]) -> None:
        until = self._allowance.until()
        for part in waiting:
            match part:
                case _Size(columns, rows):
                    self._emulator.resize(columns, rows)
                case _Skipped(settings):
                    self._emulator.forget_pending()
                    for setting in settings:
                        self._emulator.feed(setting, until=until)
                case _:
                    self._emulator.feed(bytes(part), until=until)
        self._allowance.spend(until)

    def _skip(self, flood: bytearray) -> None:
        """Leave out the beginning of a flood, up to where a line or a sequence begins."""
        found = _SAFE.search(flood, len(flood) - KEPT_BYTES)
        cut = found.start() if found else len(flood) - KEPT_BYTES
        before = self._waiting[-2] if len(self._waiting) > 1 else None
        if not isinstance(before, _Skipped):
            before = _Skipped({})
            self._waiting.insert(-1, before)
        for setting in _SETTING.findall(flood, 0, cut):
            before.settings.pop(setting, None)
            before.settings[setting] = None
        for old in list(before.settings)[:-MOST_SETTINGS]:
            del before.settings[old]
        del flood[:cut]
