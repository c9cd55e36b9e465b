"""How a runner writes a recording: asciicast v3, as `kernel.terminal.recording` reads it.

Times are written in milliseconds, and what rounding took from one is carried to the next. Output
is text: a character that is not whole at the end of a piece is held back until it is.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.terminal.recording import Event, encode_event

if TYPE_CHECKING:
    from gatekeeper.kernel.terminal.recording import Code

MAX_SEGMENT_BYTES: Final = 1_048_576
MAX_SEGMENT_SECONDS: Final = 60.0
OPEN_SUFFIX: Final = ".open"
"""Of the file of a segment that is still being written, and has no head yet."""


class CastWriter:
    """Makes the lines of events. Times are seconds since the recording began."""

    def __init__(self) -> None:
        self._told_ms = 0
        self._output = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, data: bytes) -> str:
        """Return output as text, but for a character that is not whole yet."""
        return self._output.decode(data)

    def rest(self) -> str:
        """Return what was held back: no more comes."""
        return self._output.decode(b"", final=True)

    def event(self, at: float, code: Code, data: str) -> bytes:
        delta = max(round(at * 1000) - self._told_ms, 0)
        self._told_ms += delta
        return encode_event(Event(delta / 1000, code, data))


def segment_name(number: int) -> str:
    """Name the file of a segment; they are counted from 1, and sort as they follow."""
    return f"{number:06d}.cast"
