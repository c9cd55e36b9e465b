"""TOML 1.0. The parser of the standard library gives no lines: they are found beside it."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.platform.documents.document import MAX_DEPTH, Lines, TextError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(
    r"""(?P<space> [ \t\r]+ | \#[^\n]* )
      | (?P<newline> \n )
      | (?P<text> \"\"\"(?:\\.|[^\\])*?\"{3,5} | '''.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
      | (?P<mark> [][{}=,.] )
      | (?P<bare> [^]\s[{}=,.#"']+ )""",
    re.VERBOSE | re.DOTALL,
)
_LINE_IN_ERROR: Final = re.compile(r"\(at line (\d+), column \d+\)")


def read(text: str) -> tuple[Any, Lines]:
    """Read one TOML document."""
    try:
        value = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        line = _LINE_IN_ERROR.search(str(error))
        what = _LINE_IN_ERROR.sub("", str(error)).strip() if line else type(error).__name__
        msg = f"not usable TOML: {what}"
        raise TextError(msg, int(line[1]) if line else None) from error
    return value, _Places(text).whole()


class _Places:
    """Goes through a text that is known to be TOML, and notes where each key and item stands."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text.replace("\r\n", "\n"))
        self._kind = self._word = ""
        self._line = 1
        self._root = Lines(1)
        self._arrays: set[int] = set()
        """Which of the nodes are arrays of tables: keys below one are in its last table."""
        self._step()

    def whole(self) -> Lines:
        table = self._root
        while self._kind:
            if self._kind == "newline":
                self._step()
            elif self._word == "[":
                table = self._header()
            else:
                self._pair(table, 0)
        return self._root

    def _step(self) -> None:
        self._kind, self._word, self._line = next(self._tokens, ("", "", self._line))

    def _header(self) -> Lines:
        line = self._line
        self._step()
        array = self._word == "["
        if array:
            self._step()
        *path, last = self._key()
        for _bracket in range(1 + array):
            self._step()
        table = self._below(self._below_all(path, line), last, line)
        if array:
            self._arrays.add(id(table))
            table.parts[len(table.parts)] = Lines(line)
        return self._inside(table)

    def _pair(self, table: Lines, depth: int) -> None:
        line = self._line
        *path, last = self._key()
        self._step()  # =
        table = self._below(self._below_all(path, line, table), last, line)
        table.parts.update(self._value(depth).parts)

    def _below_all(self, path: list[str], line: int, table: Lines | None = None) -> Lines:
        table = self._root if table is None else table
        for part in path:
            table = self._inside(self._below(table, part, line))
        return table

    @staticmethod
    def _below(table: Lines, part: str, line: int) -> Lines:
        return table.parts.setdefault(part, Lines(line))

    def _inside(self, table: Lines) -> Lines:
        return table.parts[len(table.parts) - 1] if id(table) in self._arrays else table

    def _key(self) -> list[str]:
        parts = []
        while self._word not in {"=", "]"}:
            if self._word != ".":
                quoted = self._kind == "text"
                parts.append(tomllib.loads(f"key = {self._word}")["key"] if quoted else self._word)
            self._step()
        return parts

    def _value(self, depth: int) -> Lines:
        if depth > MAX_DEPTH:
            msg = f"not usable TOML: more than {MAX_DEPTH} arrays and tables in one another"
            raise TextError(msg, self._line)
        found = Lines(self._line)
        if self._word not in {"[", "{"}:
            while self._kind in {"text", "bare"} or self._word == ".":
                self._step()
            return found
        end = "]" if self._word == "[" else "}"
        self._step()
        while self._word != end:
            if self._kind == "newline" or self._word == ",":
                self._step()
            elif end == "]":
                found.parts[len(found.parts)] = self._value(depth + 1)
            else:
                self._pair(found, depth + 1)
        self._step()
        return found


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for token in _TOKEN.finditer(text):
        if token.lastgroup != "space":
            yield token.lastgroup or "", token[0], line
        line += token[0].count("\n")
