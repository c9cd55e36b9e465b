"""What programs ask of a terminal: the screen as text, and to wait for a text."""

from __future__ import annotations

import asyncio
import codecs
import re
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.model import MAX_COLUMNS
from gatekeeper.wire.runner import ScreenResult

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.screen import Look
    from gatekeeper.terminals.runner.stream import Stream

LOOK_SECONDS: Final = 0.2
"""How often the screen is looked at while somebody waits for a text."""
LOOK_PART: Final = 50
"""To look through what was written may take that part of the time: it holds up all terminals."""
KEPT_CHARS: Final = 65_536
"""Of what was written since the wait began."""
_SEQUENCE: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ`-~])"
    r"|[\x00-\x09\x0b-\x1f]"
)


class _Written:
    """What was written, as text without sequences."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._raw = ""
        self.new = asyncio.Event()

    def hear(self, data: bytes) -> None:
        self._raw = (self._raw + self._decode(data))[-KEPT_CHARS:]
        self.new.set()

    def has(self, text: str) -> bool:
        return text in _SEQUENCE.sub("", self._raw)


async def wait_for_text(stream: Stream, text: str, seconds: float) -> bool:
    """Wait until the screen, or what was written meanwhile, has a text."""
    written = _Written()
    stop, loop = stream.listen(written.hear), asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds or None):
            while True:
                written.new.clear()
                began = loop.time()
                found, took = written.has(text), loop.time() - began
                if found or await _shown(stream, text):
                    return True
                if not seconds or stream.ended is not None:
                    return False
                await written.new.wait()
                await asyncio.sleep(max(LOOK_SECONDS, LOOK_PART * took))
    except TimeoutError:
        return written.has(text)
    finally:
        stop()


async def _shown(stream: Stream, text: str) -> bool:
    look = await stream.screen.look()
    return any(text in line for line in look.lines)


def screen_result(look: Look) -> ScreenResult:
    return ScreenResult(
        lines=tuple(line[: 4 * MAX_COLUMNS] for line in look.lines),
        columns=look.columns,
        rows=look.rows,
    )
