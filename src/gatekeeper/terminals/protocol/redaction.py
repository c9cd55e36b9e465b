"""Secrets taken out of a text that comes in pieces, also where a border cuts one apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED: Final = "[redacted]"
LEAST_CHARS: Final = 4
"""Shorter texts stand everywhere by chance; taking them out would tell more than it hides."""


class Redactor:
    """Replaces known texts. What may be the beginning of one is held back until that is clear.

    A terminal may write a secret in other ways (in colours, cut at a line's end): those it does
    not find.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._pattern: re.Pattern[str] | None = None
        self._held = ""
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Know more secrets, from here on."""
        found = {*self._secrets, *(text for text in secrets if len(text) >= LEAST_CHARS)}
        self._secrets = sorted(found, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._secrets))) if found else None

    def feed(self, text: str) -> str:
        """Return what can be told by now."""
        if self._pattern is None:
            return text
        text, told, at = self._held + text, [], 0
        while True:
            hold = self._beginning(text, at)
            found = self._pattern.search(text, at)
            if found is None or hold <= found.start():
                told.append(text[at:hold])
                self._held = text[hold:]
                return "".join(told)
            told += [text[at : found.start()], REDACTED]
            at = found.end()

    def flush(self) -> str:
        """Return what was held back: no more comes."""
        held, self._held = self._held, ""
        return self._pattern.sub(REDACTED, held) if self._pattern else held

    def _beginning(self, text: str, at: int) -> int:
        """Return where the end of a text begins that may become a secret."""
        longest = len(self._secrets[0])
        for start in range(max(at, len(text) - longest + 1), len(text)):
            tail = text[start:]
            if any(len(tail) < len(s) and s.startswith(tail) for s in self._secrets):
                return start
        return len(text)
