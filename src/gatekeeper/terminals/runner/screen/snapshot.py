"""A screen as bytes that draw it anew on any terminal: for who joins late, or fell behind.

Only text that was drawn, its looks, the cursor, a printable title and modes from a fixed list are
in it: nothing that a terminal would answer, no link, no clipboard, no string that was not drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.terminal.term import MAX_MESSAGE_BYTES
from gatekeeper.terminals.runner.screen.state import DEFAULT_MODES, KEPT_MODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.terminals.runner.screen.grid import Grid, Row
    from gatekeeper.terminals.runner.screen.state import State

_CLEAR: Final = "\x1b[!p\x1b[?1049l\x1b[?6l\x1b[4l\x1b(B\x1b)B\x0f\x1b[r\x1b[0m\x1b[H\x1b[2J"
_CURSOR: Final = 25
MAX_BYTES: Final = MAX_MESSAGE_BYTES - 64
"""With what a protocol says before it, it is one message."""


def snapshot(screen: State) -> bytes:
    """Return what draws the screen, whatever the terminal showed before.

    One that would be too large is drawn plainly: half a million cells, each with a colour of its
    own, are as many sequences.
    """
    drawn = _draw(screen, _drawn)
    return drawn if len(drawn) <= MAX_BYTES else _draw(screen, _plain)


def _draw(screen: State, draw: Callable[[Row], str]) -> bytes:
    parts = [_CLEAR, _modes(screen, before=True), *_cells(screen.main, draw)]
    if screen.alternate is not None:
        main = screen.main
        parts += [f"\x1b[0m\x1b[{main.y + 1};{main.x + 1}H\x1b[?1049h\x1b[H\x1b[2J"]
        parts += _cells(screen.alternate, draw)
    if screen.title:
        parts.append(f"\x1b]2;{screen.title}\x1b\\")
    parts += _rest(screen)
    return "".join(parts).encode(errors="replace")


def _modes(screen: State, *, before: bool) -> str:
    """Set what is not so after a reset: while it is drawn, lines wrap and nothing blinks."""
    if before:
        off = ";".join(str(mode) for mode in sorted(KEPT_MODES - DEFAULT_MODES))
        return f"\x1b[?{off}l\x1b[?7h\x1b[?25l"
    on = sorted((screen.modes - DEFAULT_MODES) | (screen.modes & {_CURSOR}))
    off_now = sorted(DEFAULT_MODES - screen.modes - {_CURSOR})
    text = "".join(f"\x1b[?{mode}h" for mode in on)
    return text + "".join(f"\x1b[?{mode}l" for mode in off_now)


def _cells(grid: Grid, draw: Callable[[Row], str]) -> list[str]:
    return [f"\x1b[{y + 1};1H{text}" for y, row in enumerate(grid.rows) if (text := draw(row))]


def _drawn(row: Row) -> str:
    """Return a row's text with its looks, without the plain blanks at its end."""
    end = len(row.chars)
    while end and row.chars[end - 1] == " " and not row.looks[end - 1]:
        end -= 1
    parts, look = [], ""
    for char, wanted in zip(row.chars[:end], row.looks[:end], strict=True):
        if wanted != look:
            parts.append(f"\x1b[0;{wanted}m" if wanted else "\x1b[0m")
            look = wanted
        parts.append(char)
    return "".join(parts) + ("\x1b[0m" if look else "")


def _plain(row: Row) -> str:
    """Return a row's text without looks, and without what combines: 4 bytes a cell at most."""
    return "".join(char[:1] for char in row.chars).rstrip()


def _rest(screen: State) -> list[str]:
    """Return what the command left behind besides text: the cursor last, for it moves."""
    grid = screen.grid
    parts = [f"\x1b[{screen.cursor_style} q" if screen.cursor_style else ""]
    parts.append("\x1b=" if screen.keypad else "\x1b>")
    if (grid.top, grid.bottom) != (0, screen.height - 1):
        parts.append(f"\x1b[{grid.top + 1};{grid.bottom + 1}r")
    inside = grid.top <= grid.y <= grid.bottom
    row = grid.y + 1 - (grid.top if screen.origin and inside else 0)
    parts.append("\x1b[?6h" if screen.origin else "")
    parts.append(f"\x1b[{row};{grid.x + 1}H")
    if grid.full and (inside or not screen.origin):
        parts.append(_last_again(grid, row))
    parts.append(f"\x1b[0;{screen.pen.look}m" if screen.pen.look else "\x1b[0m")
    parts += [f"\x1b{'()'[n]}0" for n, name in enumerate(screen.charsets) if name == "0"]
    parts.append("\x0e" if screen.shift else "")
    parts.append("\x1b[4h" if screen.insert else "")
    parts.append(_modes(screen, before=False))
    return parts


def _last_again(grid: Grid, at_row: int) -> str:
    """Write the last column again: the next character then begins a new row, as it would have."""
    row, at = grid.rows[grid.y], grid.x
    if not row.chars[at]:
        at -= 1
    look = f"\x1b[0;{row.looks[at]}m" if row.looks[at] else "\x1b[0m"
    return f"\x1b[{at_row};{at + 1}H{look}{row.chars[at]}"
