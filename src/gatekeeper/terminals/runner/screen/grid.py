"""A grid of characters: what writing, erasing, inserting and scrolling do to it."""

from __future__ import annotations

from typing import Final

from wcwidth import wcwidth

MAX_CLUSTER_CHARS: Final = 16
"""A character, and what combines with it."""
_TAB: Final = 8


class Row:
    """Cells: what is in them, and how it looks. A wide character has an empty cell behind it."""

    __slots__ = ("chars", "looks")

    def __init__(self, columns: int, look: str = "") -> None:
        self.chars = [" "] * columns
        self.looks = [look] * columns

    def fit(self, columns: int) -> None:
        more = columns - len(self.chars)
        if more > 0:
            self.chars += [" "] * more
            self.looks += [""] * more
        elif more < 0:
            self._part(columns)
            del self.chars[columns:]
            del self.looks[columns:]

    def put(self, at: int, chars: str | list[str], look: str) -> None:
        end = at + len(chars)
        self._part(at)
        self._part(end)
        self.chars[at:end] = chars
        self.looks[at:end] = [look] * len(chars)

    def erase(self, at: int, end: int, look: str) -> None:
        self.put(at, " " * max(min(end, len(self.chars)) - at, 0), look)

    def insert(self, at: int, count: int, look: str) -> None:
        columns = len(self.chars)
        self._part(at)
        self.chars[at:at] = [" "] * count
        self.looks[at:at] = [look] * count
        self.fit(columns)

    def delete(self, at: int, count: int, look: str) -> None:
        count = min(count, len(self.chars) - at)
        self._part(at)
        self._part(at + count)
        del self.chars[at : at + count]
        del self.looks[at : at + count]
        self.chars += [" "] * count
        self.looks += [look] * count

    def combine(self, at: int, char: str) -> None:
        """Add what has no width of its own to the character at, or before, a cell."""
        while at > 0 and not self.chars[at]:
            at -= 1
        if len(self.chars[at]) < MAX_CLUSTER_CHARS:
            self.chars[at] += char

    def text(self) -> str:
        return "".join(self.chars).rstrip()

    def _part(self, border: int) -> None:
        """Blank a wide character that a border would cut in two."""
        if 0 < border < len(self.chars) and not self.chars[border]:
            self.chars[border - 1] = self.chars[border] = " "


class Grid:
    """Rows, the cursor, and the part that scrolls."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.height = columns, rows
        self.rows = [Row(columns) for _ in range(rows)]
        self.x = self.y = 0
        self.full = False
        """The last column was written: the next character goes to the next row."""
        self.top, self.bottom = 0, rows - 1
        self.tabs = set(range(_TAB, columns, _TAB))

    def resize(self, columns: int, rows: int) -> None:
        """Change the size: what is above goes first, so that the cursor stays in sight."""
        over = self.height - rows
        if over > 0:
            drop = min(max(self.y - rows + 1, 0), over)
            del self.rows[:drop]
            self.y -= drop
        del self.rows[rows:]
        self.rows += [Row(columns) for _ in range(rows - len(self.rows))]
        for row in self.rows:
            row.fit(columns)
        self.tabs |= set(range((self.columns // _TAB + 1) * _TAB, columns, _TAB))
        self.columns, self.height = columns, rows
        self.top, self.bottom = 0, rows - 1
        self.move(self.x, self.y)

    def move(self, x: int, y: int) -> None:
        self.x = min(max(x, 0), self.columns - 1)
        self.y = min(max(y, 0), self.height - 1)
        self.full = False

    def write(self, text: str, look: str, *, wrap: bool, insert: bool) -> None:
        if text.isascii() and not insert:
            self._write_plain(text, look, wrap=wrap)
            return
        for char in text:
            width = 1 if char.isascii() else wcwidth(char)
            if width > 0:
                self._write_one(char, width, look, wrap=wrap, insert=insert)
            elif width == 0:
                self.rows[self.y].combine(self.x if self.full else max(self.x - 1, 0), char)

    def line_feed(self, look: str) -> None:
        self.full = False
        if self.y == self.bottom:
            self.scroll_up(1, look)
        elif self.y < self.height - 1:
            self.y += 1

    def reverse_line_feed(self, look: str) -> None:
        self.full = False
        if self.y == self.top:
            self.scroll_down(1, look)
        elif self.y > 0:
            self.y -= 1

    def scroll_up(self, count: int, look: str, top: int | None = None) -> None:
        """Take rows out at the top of what scrolls, and add blank ones at its bottom."""
        top = self.top if top is None else top
        count = min(count, self.bottom - top + 1)
        del self.rows[top : top + count]
        at = self.bottom - count + 1
        self.rows[at:at] = [Row(self.columns, look) for _ in range(count)]

    def scroll_down(self, count: int, look: str, top: int | None = None) -> None:
        top = self.top if top is None else top
        count = min(count, self.bottom - top + 1)
        del self.rows[self.bottom - count + 1 : self.bottom + 1]
        self.rows[top:top] = [Row(self.columns, look) for _ in range(count)]

    def erase_rows(self, start: int, end: int, look: str) -> None:
        for y in range(start, end):
            self.rows[y] = Row(self.columns, look)

    def tab(self, count: int) -> None:
        for _ in range(min(count, len(self.tabs) + 1)):
            after = [stop for stop in self.tabs if stop > self.x]
            self.move(min(after, default=self.columns - 1), self.y)

    def tab_back(self, count: int) -> None:
        for _ in range(min(count, len(self.tabs) + 1)):
            before = [stop for stop in self.tabs if stop < self.x]
            self.move(max(before, default=0), self.y)

    def _write_plain(self, text: str, look: str, *, wrap: bool) -> None:
        at = 0
        while at < len(text):
            if self.full:
                self._next_row(look, wrap=wrap)
            part = text[at : at + self.columns - self.x]
            self.rows[self.y].put(self.x, part, look)
            at += len(part)
            self._forward(len(part))

    def _write_one(self, char: str, width: int, look: str, *, wrap: bool, insert: bool) -> None:
        if self.full or (self.x + width > self.columns and wrap):
            self._next_row(look, wrap=wrap)
        if width > self.columns:
            return
        self.x = min(self.x, self.columns - width)
        row = self.rows[self.y]
        if insert:
            row.insert(self.x, width, look)
        row.put(self.x, [char] + [""] * (width - 1), look)
        self._forward(width)

    def _forward(self, count: int) -> None:
        self.full = self.x + count >= self.columns
        self.x = min(self.x + count, self.columns - 1)

    def _next_row(self, look: str, *, wrap: bool) -> None:
        self.full = False
        if wrap:
            self.x = 0
            self.line_feed(look)
