"""Lines of JSON on a stream, written in batches: one system call for many decisions.

The structured logger formats and writes each record at once, which costs more than a whole
decision. Here a line is joined from parts, and lines wait for at most `FLUSH_SECONDS`.
"""

from __future__ import annotations

import asyncio
import json
from typing import IO, Final

FLUSH_SECONDS: Final = 0.1
FLUSH_LINES: Final = 500

encode_text = json.encoder.encode_basestring_ascii
"""Write a text as JSON has it."""


class LineWriter:
    """Collects lines and writes them together. Nothing is lost when it is closed."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: str) -> None:
        """Write a line soon. Needs a running loop."""
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        elif len(self._lines) >= FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what waits. A reader who is gone takes nothing down with it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return
