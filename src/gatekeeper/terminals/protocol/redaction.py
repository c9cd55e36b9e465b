"""Secrets taken out of what a terminal wrote, however it is cut into pieces.

What is looked for is what is to be read: a secret is found also where a program changes colours
or breaks a line between its characters, as long as these are written in their order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED: Final = "[redacted]"
LEAST_CHARS: Final = 4
"""Shorter texts stand everywhere by chance; taking them out would tell more than it hides."""
MAX_BETWEEN_CHARS: Final = 4_096
"""Of sequences and line ends in a secret that has not ended; what has more is let go."""
MAX_SEQUENCE_CHARS: Final = 1_024
"""A longer one is text."""

# No part may read on over the begin of another, nor go back in what it has read: whoever writes
# begins without ends would keep us busy.
_STRING: Final = (
    rf"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]{{0,{MAX_SEQUENCE_CHARS}}}+"
)
_CSI: Final = rf"(?:\x1b\[|\x9b)[ -?]{{0,{MAX_SEQUENCE_CHARS}}}+"
_ESCAPE: Final = r"\x1b[ -/]{0,8}+"
_BEGUN: Final = rf"(?:{_STRING}\x1b?|{_CSI}|{_ESCAPE}| )\Z"
_BETWEEN: Final = re.compile(
    rf"(?:{_STRING}(?:\x07|\x9c|\x1b\\|(?=\x1b[^\\]|[\x80-\x9f]))"
    rf"|{_CSI}[@-~]"
    rf"|{_BEGUN}"
    rf"|{_ESCAPE}[0-~]"
    r"| \r"  # how readline goes on in the next row
    r"|[\x00-\x1f\x7f-\x9f])++"
)
"""What may stand between two characters that are read as one word."""
_AT_END: Final = re.compile(_BEGUN)
_HIDDEN: Final = re.compile(_STRING)
"""A text that is not shown: a title, or a link."""


class Redactor:
    """Replaces known texts. What may be the beginning of one is held back until that is clear."""

    def __init__(self, secrets: Iterable[str]) -> None:
        shown = {_BETWEEN.sub("", text).strip() for text in secrets}
        known = sorted((text for text in shown if len(text) >= LEAST_CHARS), key=len, reverse=True)
        # Where a line is broken at a blank, the blank is gone.
        pattern = "|".join(re.escape(text).replace(r"\ ", " ?") for text in known)
        self._pattern = re.compile(pattern) if known else None
        self._bare = [text.replace(" ", "") for text in known]
        self._longest = max(map(len, known), default=0)
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what can be told by now."""
        return self._told(self._held + text, last=False)

    def flush(self) -> str:
        """Return what was held back: no more comes."""
        return self._told(self._held, last=True)

    def _told(self, text: str, *, last: bool) -> str:
        if self._pattern is None:
            return text
        shown = _Shown(text)
        told, at = [], 0
        hold = len(shown.text) if last else self._beginning(shown.text, 0)
        for found in self._pattern.finditer(shown.text):
            hold = self._bounded(shown, hold, found.start())
            if hold <= found.start():
                break
            start, _ = shown.place(found.start())
            end, between = shown.place(found.end() - 1)
            told += [text[at:start], REDACTED, between]  # colours and lines go on as they did
            at = end + 1
            if hold < found.end():
                hold = self._beginning(shown.text, found.end())
        cut = len(text) if last else self._cut(shown, hold)
        told.append(text[at:cut])
        self._held = text[cut:]
        return _HIDDEN.sub(self._hidden, "".join(told))

    def _beginning(self, shown: str, at: int) -> int:
        """Return where the end of a text begins that may become a secret."""
        for start in range(max(at, len(shown) - self._longest + 1), len(shown)):
            tail = shown[start:].replace(" ", "")
            if tail and any(len(tail) < len(s) and s.startswith(tail) for s in self._bare):
                return start
        return len(shown)

    def _bounded(self, shown: _Shown, hold: int, most: int) -> int:
        """Return where that begins, when what has too much in it is let go, up to a place."""
        while hold <= most and shown.between(hold) > MAX_BETWEEN_CHARS:
            hold = self._beginning(shown.text, hold + 1)
        return hold

    def _cut(self, shown: _Shown, hold: int) -> int:
        """Return up to where a text can be told."""
        hold = self._bounded(shown, hold, len(shown.text) - 1)
        if hold < len(shown.text):
            return shown.place(hold)[0]
        # A blank, or an escape, is not waited on where no secret may have begun before it.
        return shown.length if shown.length - shown.end == 1 else shown.end

    def _hidden(self, found: re.Match[str]) -> str:
        assert self._pattern is not None  # noqa: S101  # there are secrets to be found
        return self._pattern.sub(REDACTED, found[0])


class _Shown:
    """What is to be read of a text, and where in the text that is."""

    def __init__(self, text: str) -> None:
        self.text = _BETWEEN.sub("", text)
        self.length = len(text)
        begun = _AT_END.search(text, max(len(text) - MAX_SEQUENCE_CHARS - 3, 0))
        self.end = begun.start() if begun else len(text)
        """Without a sequence that has not ended."""
        self._runs = _BETWEEN.finditer(text)
        self._run = next(self._runs, None)
        self._passed = 0

    def place(self, at: int) -> tuple[int, str]:
        """Return where a character stands, and what was passed on the way there from the last one
        that was asked for. They are asked for in their order.
        """
        passed = []
        while self._run is not None and self._run.start() - self._passed <= at:
            passed.append(self._run[0])
            self._passed += len(self._run[0])
            self._run = next(self._runs, None)
        return at + self._passed, "".join(passed)

    def between(self, at: int) -> int:
        """Return how much stands between what is to be read from a character on."""
        return (self.end - self.place(at)[0]) - (len(self.text) - at)


def redacted_lines(lines: Iterable[str], secrets: Iterable[str]) -> tuple[str, ...]:
    """Return a screen's lines, as many of them, without secrets."""
    redactor = Redactor(secrets)
    return tuple((redactor.feed("\n".join(lines)) + redactor.flush()).split("\n"))
