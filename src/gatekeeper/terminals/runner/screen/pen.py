"""How characters look: SGR (ECMA-48 section 8.3.117, and what xterm adds) kept as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ON: Final = {1: "1", 2: "2", 3: "3", 4: "4", 5: "5", 6: "5", 7: "7", 8: "8", 9: "9", 21: "21"}
_OFF: Final = {
    22: {"1", "2"}, 23: {"3"}, 24: {"4", "21"}, 25: {"5"}, 27: {"7"}, 28: {"8"}, 29: {"9"},
}  # fmt: skip
_PALETTE, _RGB = 5, 2
_MAX_COLOUR: Final = 255


class Pen:
    """What new characters look like. `look` is the SGR that gives it, without the leading 0."""

    def __init__(self) -> None:
        self._on: set[str] = set()
        self._front = self._back = ""
        self.look = ""

    @property
    def erased(self) -> str:
        """What erased cells look like: they have the background alone."""
        return self._back

    def copy(self) -> Pen:
        other = Pen()
        other._on, other._front, other._back = set(self._on), self._front, self._back
        other.look = self.look
        return other

    def select(self, text: str) -> None:
        """Apply the parameters of one SGR; what is not known changes nothing."""
        numbers = iter([_number(part) for part in text.replace(":", ";").split(";")])
        for number in numbers:
            self._apply(number, numbers)
        self.look = ";".join(filter(None, (*sorted(self._on), self._front, self._back)))

    def _apply(self, number: int, others: Iterator[int]) -> None:
        if number == 0:
            self._on, self._front, self._back = set(), "", ""
        elif number in _ON:
            self._on.add(_ON[number])
        elif number in _OFF:
            self._on -= _OFF[number]
        else:
            self._apply_colour(number, others)

    def _apply_colour(self, number: int, others: Iterator[int]) -> None:
        if 30 <= number <= 37 or 90 <= number <= 97:  # noqa: PLR2004  # the table of SGR
            self._front = str(number)
        elif 40 <= number <= 47 or 100 <= number <= 107:  # noqa: PLR2004  # as above
            self._back = str(number)
        elif number in {38, 39}:
            self._front = _colour(number, others) if number == 38 else ""  # noqa: PLR2004  # as above
        elif number in {48, 49}:
            self._back = _colour(number, others) if number == 48 else ""  # noqa: PLR2004  # as above
        elif number == 58:  # noqa: PLR2004  # an underline's colour, which is not kept
            _colour(number, others)


def _colour(number: int, others: Iterator[int]) -> str:
    kind = next(others, 0)
    count = {_PALETTE: 1, _RGB: 3}.get(kind, 0)
    values = [min(next(others, 0), _MAX_COLOUR) for _ in range(count)]
    return ";".join(map(str, (number, kind, *values))) if count else ""


def _number(text: str) -> int:
    return int(text[:5]) if text.isdecimal() and text.isascii() else 0
