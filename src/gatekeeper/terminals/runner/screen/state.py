"""What a terminal remembers, and what its sequences do to that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gatekeeper.terminals.runner.screen.grid import Grid
from gatekeeper.terminals.runner.screen.pen import Pen

KEPT_MODES: Final = frozenset(
    {1, 5, 7, 9, 25, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 2004}
)
"""Private modes that a viewer's terminal needs as well: keys, mouse, paste, cursor, wrapping."""
WRAP: Final = 7
DEFAULT_MODES: Final = frozenset({7, 25, 1007})


@dataclass(slots=True)
class _Saved:
    x: int
    y: int
    pen: Pen
    charsets: list[str]
    shift: int


class State:
    """Two screens, a pen, a cursor, modes. Sizes are at least 1."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.height = columns, rows
        self.reset()

    def reset(self) -> None:
        self.main = Grid(self.columns, self.height)
        self.alternate: Grid | None = None
        self.pen = Pen()
        self.title = ""
        self.modes = set(DEFAULT_MODES)
        self.keypad = self.insert = self.origin = False
        self.cursor_style = 0
        self.charsets = ["B", "B"]
        self.shift = 0
        self._saved: _Saved | None = None
        self._main_saved: _Saved | None = None

    @property
    def grid(self) -> Grid:
        return self.main if self.alternate is None else self.alternate

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.height = columns, rows
        self.main.resize(columns, rows)
        if self.alternate is not None:
            self.alternate.resize(columns, rows)

    def lines(self) -> list[str]:
        """Return what is to be seen, without the blanks at the ends."""
        return [row.text() for row in self.grid.rows]

    def _soft_reset(self) -> None:
        self.pen, self._saved = Pen(), None
        self.modes |= {7, 25}
        self.modes.discard(1)
        self.keypad = self.insert = self.origin = False
        self.charsets, self.shift = ["B", "B"], 0
        self.grid.top, self.grid.bottom = 0, self.height - 1

    def _switch(self, *, on: bool, keep_cursor: bool) -> None:
        if on and self.alternate is None:
            self.save()
            self._main_saved = self._saved
            other = Grid(self.columns, self.height)
            other.move(self.main.x, self.main.y)
            self.alternate = other
        elif not on and self.alternate is not None:
            self.alternate = None
            self._saved = self._main_saved
            if keep_cursor:
                self.restore()

    def save(self) -> None:
        grid = self.grid
        self._saved = _Saved(grid.x, grid.y, self.pen.copy(), list(self.charsets), self.shift)

    def restore(self) -> None:
        saved = self._saved or _Saved(0, 0, Pen(), ["B", "B"], 0)
        self.pen, self.charsets, self.shift = saved.pen.copy(), list(saved.charsets), saved.shift
        self.grid.move(saved.x, saved.y)

    def go(self, x: int, y: int) -> None:
        grid = self.grid
        if self.origin:
            grid.move(x, min(grid.top + y, grid.bottom))
        else:
            grid.move(x, y)

    def erase_display(self, how: int) -> None:
        grid, look = self.grid, self.pen.erased
        if how == 0:
            grid.rows[grid.y].erase(grid.x, self.columns, look)
            grid.erase_rows(grid.y + 1, self.height, look)
        elif how == 1:
            grid.erase_rows(0, grid.y, look)
            grid.rows[grid.y].erase(0, grid.x + 1, look)
        elif how == 2:  # noqa: PLR2004  # all of it
            grid.erase_rows(0, self.height, look)

    def erase_line(self, how: int) -> None:
        grid = self.grid
        start = grid.x if how == 0 else 0
        end = grid.x + 1 if how == 1 else self.columns
        grid.rows[grid.y].erase(start, end, self.pen.erased)

    def margins(self, numbers: list[int]) -> None:
        top = max(numbers[0], 1) - 1
        bottom = (numbers[1] if len(numbers) > 1 else 0) or self.height
        if top < min(bottom, self.height) - 1:
            self.grid.top, self.grid.bottom = top, min(bottom, self.height) - 1
            self.go(0, 0)

    def up(self, count: int, x: int | None = None) -> None:
        grid = self.grid
        grid.move(
            grid.x if x is None else x, max(grid.y - count, grid.top if grid.y >= grid.top else 0)
        )

    def down(self, count: int, x: int | None = None) -> None:
        grid = self.grid
        last = grid.bottom if grid.y <= grid.bottom else self.height - 1
        grid.move(grid.x if x is None else x, min(grid.y + count, last))

    def insert_lines(self, count: int, *, delete: bool) -> None:
        grid = self.grid
        if grid.top <= grid.y <= grid.bottom:
            scroll = grid.scroll_up if delete else grid.scroll_down
            scroll(count, self.pen.erased, grid.y)
            grid.move(0, grid.y)

    def clear_tabs(self, how: int) -> None:
        if how == 3:  # noqa: PLR2004  # all of them
            self.grid.tabs.clear()
        elif how == 0:
            self.grid.tabs.discard(self.grid.x)

    def set_mode(self, numbers: list[int], *, on: bool) -> None:
        if 4 in numbers:  # noqa: PLR2004  # IRM
            self.insert = on
