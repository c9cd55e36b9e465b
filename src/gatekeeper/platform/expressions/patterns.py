"""RE2 patterns: their time is linear in the text, whatever the pattern (no ReDoS)."""

from __future__ import annotations

from typing import Final, Protocol

import re2

MAX_PATTERN_CHARS: Final = 4_096
MAX_PATTERN_MEMORY_BYTES: Final = 1 << 20

_OPTIONS: Final = re2.Options()
_OPTIONS.max_mem = MAX_PATTERN_MEMORY_BYTES
_OPTIONS.log_errors = False


class Found(Protocol):
    def __call__(self, text: str) -> bool: ...


def compile_pattern(source: str) -> Found:
    """Compile a pattern that is found anywhere in a text unless it says `^` or `$`."""
    if len(source) > MAX_PATTERN_CHARS:
        msg = f"a pattern may have at most {MAX_PATTERN_CHARS} characters"
        raise ValueError(msg)
    try:
        search = re2.compile(source, _OPTIONS).search
    except (re2.error, UnicodeEncodeError) as error:
        msg = f"the pattern cannot be used: {_reason(error)}"
        raise ValueError(msg) from None

    def found(text: str) -> bool:
        try:
            return search(text.encode()) is not None  # of bytes: text would take 2 us more
        except UnicodeEncodeError:
            # A lone surrogate is no character: no pattern is found in such a text.
            return False

    return found


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else "it is no text"
    return reason.decode() if isinstance(reason, bytes) else str(reason)
