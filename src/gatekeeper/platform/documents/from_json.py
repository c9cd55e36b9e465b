"""JSON (RFC 8259), with the line of each value. A name that stands twice is refused."""

from __future__ import annotations

import bisect
import re
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any, Final, NoReturn

from gatekeeper.platform.documents.document import MAX_DEPTH, Lines, TextError

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,9})?")
_WORDS: Final = {"true": True, "false": False, "null": None}


def read(text: str) -> tuple[Any, Lines]:
    """Read one JSON text."""
    return _Reader(text).whole()


class _Reader:
    """Reads values one after the other; `_at` is where it is in the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]

    def whole(self) -> tuple[Any, Lines]:
        read = self._value(0)
        if self._next():
            self._refuse("something follows its end")
        return read

    def _value(self, depth: int) -> tuple[Any, Lines]:
        begins, lines = self._next(), Lines(self._line())
        if depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} arrays and objects in one another")
        if begins == "{":
            return self._object(depth, lines), lines
        if begins == "[":
            return self._array(depth, lines), lines
        return self._string() if begins == '"' else self._other(), lines

    def _object(self, depth: int, lines: Lines) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._at += 1
        while self._goes_on("}", first=not found):
            self._next()
            line, name = self._line(), self._string()
            if name in found:
                self._refuse(f"the name {name!r} stands here twice")
            self._expect(":")
            found[name], inner = self._value(depth + 1)
            lines.parts[name] = Lines(line, inner.parts)
        return found

    def _array(self, depth: int, lines: Lines) -> list[Any]:
        found: list[Any] = []
        self._at += 1
        while self._goes_on("]", first=not found):
            item, lines.parts[len(found)] = self._value(depth + 1)
            found.append(item)
        return found

    def _goes_on(self, end: str, *, first: bool) -> bool:
        """Go past the end of a list of things, or to the next of them."""
        if self._next() == end:
            self._at += 1
            return False
        if not first:
            self._expect(",")
        return True

    def _string(self) -> str:
        self._expect('"')
        try:
            found, self._at = scanstring(self._text, self._at, True)  # noqa: FBT003  # by place
        except JSONDecodeError:
            self._refuse("a string has no end, or an unescaped control character")
        return str(found)

    def _other(self) -> bool | int | float | None:
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            self._refuse("expected a value")
        self._at = number.end()
        return float(number[0]) if number[1] or number[2] else int(number[0])

    def _expect(self, mark: str) -> None:
        if self._next() != mark:
            self._refuse(f"expected {mark}")
        self._at += 1

    def _next(self) -> str:
        """Go to what comes after white space, and return its first character."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _line(self) -> int:
        return bisect.bisect_left(self._ends, self._at) + 1

    def _refuse(self, what: str) -> NoReturn:
        msg = f"not usable JSON: {what}"
        raise TextError(msg, self._line())
