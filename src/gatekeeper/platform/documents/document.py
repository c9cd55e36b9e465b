"""A document that was read: its value, and where each part of it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE_BYTES: Final = 1_048_576
MAX_DEPTH: Final = 100
"""Of lists and mappings in one another."""

Location = tuple[str | int, ...]
"""Where a value is in a document: keys of mappings, numbers of list items."""


class DocumentError(InputError):
    """A file is not a usable document; `place` is the file, with the line when it is known."""

    def __init__(self, path: Path, what: str, line: int | None = None) -> None:
        self.place = str(path) if line is None else f"{path}:{line}"
        self.what = what
        super().__init__(f"{self.place}: {what}")


class TextError(Exception):
    """A text is not what it should be."""

    def __init__(self, what: str, line: int | None = None) -> None:
        self.what = what
        self.line = line
        super().__init__(what)


@dataclass(slots=True)
class Lines:
    """The line a value stands in, and those of the values in it."""

    line: int
    parts: dict[str | int, Lines] = field(default_factory=dict)
    blank: bool = False
    """Nothing is written there (`key:` in YAML), which is read as null."""

    def blanks(self) -> Iterator[Location]:
        """Yield where nothing is written, below here."""
        for part, lines in self.parts.items():
            if lines.blank:
                yield (part,)
            yield from ((part, *below) for below in lines.blanks())


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document, read as a whole."""

    path: Path
    content: bytes
    value: Any
    lines: Lines

    def line_of(self, location: Location) -> int:
        """Return the line of the innermost part of a location that has one."""
        return self._at(location).line

    def blanks(self, location: Location) -> tuple[Location, ...]:
        """Return where nothing is written, below a location."""
        return tuple(self._at(location).blanks())

    def _at(self, location: Location) -> Lines:
        at = self.lines
        for part in location:
            if part not in at.parts:
                break
            at = at.parts[part]
        return at

    def place(self, location: Location) -> str:
        return f"{self.path}:{self.line_of(location)}"
