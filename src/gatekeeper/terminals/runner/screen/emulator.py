"""A terminal as xterm is one, as far as its picture goes: bytes in, a grid and modes out.

It answers nothing, and knows no clipboard, links, or images: those never reach a snapshot.
Sources: ECMA-48, and "XTerm Control Sequences" (invisible-island.net/xterm/ctlseqs).
"""

from __future__ import annotations

import codecs
import math
import re
import time
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.runner.screen.state import KEPT_MODES, WRAP, State

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HELD_CHARS: Final = 65_536
"""Of a sequence that has not ended; a longer one is none."""
MAX_TITLE_CHARS: Final = 256
MAX_NUMBER: Final = 9_999
_ALTERNATE: Final = frozenset({47, 1047, 1049})
_LINES: Final = str.maketrans("`abcdefghijklmnopqrstuvwxyz{|}~", "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")
"""DEC's line drawing characters."""

_TOKEN: Final = re.compile(
    "(?P<text>[^\x00-\x1f\x7f]+)"
    "|\x1b\\[(?P<parameters>[0-?]*)(?P<middle>[ -/]*)(?P<final>[@-~])"
    "|\x1b\\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\\\)"
    "|(?:\x1b\\][^\x07\x1b]*|\x1b[PX^_][^\x1b]*)(?=\x1b[^\\\\])"  # cut off by the next
    "|\x1b[PX^_][^\x1b]*\x1b\\\\"
    "|\x1b(?P<escape>[ -/]*[0-OQ-WYZ\\\\`-~])"
    "|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    "|\x1b"
)
_COSTLY: Final = frozenset({"final", "escape"})
"""Groups of what may change the whole screen."""
_BEGUN: Final = re.compile("\x1b(?:\\[[ -?]*|\\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)\\Z")
_INVALID: Final = re.compile("[\udc80-\udcff]")
"""Bytes that are no UTF-8, as they are decoded here: each stands for itself."""
_C1: Final = re.compile("[\x80-\x9f]")


class Emulator(State):
    """A terminal's state. `feed` it what was written, in any pieces."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(columns, rows)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._held = ""

    @property
    def pending(self) -> int:
        """How many of the last bytes begin something that has not ended yet."""
        undecoded, _ = self._decoder.getstate()
        return len(undecoded) + len(self._held.encode(errors="surrogateescape"))

    def forget_pending(self) -> None:
        """What follows is not what followed it."""
        self._held = ""
        self._decoder.reset()

    def feed(self, data: bytes, *, until: float = math.inf) -> None:
        """Take in what was written. What is left when this thread's CPU time is over is not read:
        a few bytes can ask for a screen's work.
        """
        text = self._held + self._decoder.decode(data)
        text = _C1.sub(lambda found: "\x1b" + chr(ord(found[0]) - 0x40), text)
        self._held, at = "", 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            assert found is not None  # noqa: S101  # every character begins a token
            if found.lastgroup is None and _BEGUN.match(text, at):
                self._held = text[at:] if len(text) - at <= MAX_HELD_CHARS else ""
                return
            self._take(found)
            at = found.end()
            if found.lastgroup in _COSTLY and time.thread_time() >= until:
                return

    def _take(self, found: re.Match[str]) -> None:
        match found.lastgroup:
            case "text":
                self._write(found["text"])
            case "control":
                self._control(found["control"])
            case "final":
                self._csi(found["parameters"], found["middle"], found["final"])
            case "osc":
                self._osc(found["osc"])
            case "escape":
                self._escape(found["escape"])

    def _write(self, text: str) -> None:
        text = _INVALID.sub("\ufffd", text)
        if self.charsets[self.shift] == "0":
            text = text.translate(_LINES)
        self.grid.write(text, self.pen.look, wrap=WRAP in self.modes, insert=self.insert)

    def _control(self, char: str) -> None:
        grid = self.grid
        match char:
            case "\n" | "\v" | "\f":
                grid.line_feed(self.pen.erased)
            case "\r":
                grid.move(0, grid.y)
            case "\b":
                grid.move(grid.x - 1, grid.y)
            case "\t":
                grid.tab(1)
            case "\x0e":
                self.shift = 1
            case "\x0f":
                self.shift = 0

    def _osc(self, text: str) -> None:
        kind, _, value = text.partition(";")
        if kind in {"0", "2"}:
            shown = "".join(char for char in value if char.isprintable())
            self.title = shown[:MAX_TITLE_CHARS]

    def _escape(self, text: str) -> None:
        grid = self.grid
        match text:
            case "7":
                self.save()
            case "8":
                self.restore()
            case "D":
                grid.line_feed(self.pen.erased)
            case "E":
                grid.move(0, grid.y)
                grid.line_feed(self.pen.erased)
            case "M":
                grid.reverse_line_feed(self.pen.erased)
            case "H":
                grid.tabs.add(grid.x)
            case "c":
                self.reset()
            case _:
                self._escape_setting(text)

    def _escape_setting(self, text: str) -> None:
        if text in {"=", ">"}:
            self.keypad = text == "="
        elif text[0] in "()" and text[1:]:
            self.charsets["()".index(text[0])] = text[-1]
        elif text == "#8":
            for row in self.grid.rows:
                row.put(0, "E" * self.columns, "")

    def _csi(self, parameters: str, middle: str, final: str) -> None:
        if middle:
            self._csi_with_middle(parameters, middle, final)
        elif parameters.startswith("?"):
            if final in "hl":
                for mode in _numbers(parameters[1:]):
                    self._set_private(mode, on=final == "h")
        elif not parameters.startswith(("<", "=", ">")):
            if final == "m":
                self.pen.select(parameters)
            elif (act := _ACTS.get(final)) is not None:
                act(self, _numbers(parameters))

    def _csi_with_middle(self, parameters: str, middle: str, final: str) -> None:
        if (middle, final) == ("!", "p"):
            self._soft_reset()
        elif (middle, final) == (" ", "q"):
            self.cursor_style = min(_numbers(parameters)[0], 6)

    def _set_private(self, mode: int, *, on: bool) -> None:
        if mode in KEPT_MODES:
            (self.modes.add if on else self.modes.discard)(mode)
        elif mode in _ALTERNATE:
            self._switch(on=on, keep_cursor=mode == 1049)  # noqa: PLR2004  # xterm's number
        elif mode == 6:  # noqa: PLR2004  # DECOM
            self.origin = on
            self.go(0, 0)
        elif mode == 1048:  # noqa: PLR2004  # as DECSC and DECRC
            (self.save if on else self.restore)()

    def repeat(self, count: int) -> None:
        grid = self.grid
        at = grid.x if grid.full else grid.x - 1
        if at >= 0 and (char := grid.rows[grid.y].chars[at]):
            grid.write(
                char * min(count, self.columns * self.height),
                self.pen.look,
                wrap=WRAP in self.modes,
                insert=self.insert,
            )


def _numbers(text: str) -> list[int]:
    return [
        min(int(part[:6]), MAX_NUMBER) if part.isdecimal() else 0
        for part in text.replace(":", ";").split(";")
    ]


def _second(numbers: list[int]) -> int:
    return max(numbers[1], 1) if len(numbers) > 1 else 1


def _one(act: Callable[[Emulator, int], object]) -> Callable[[Emulator, list[int]], object]:
    """Make an act of a count, which is 1 where none is given."""
    return lambda e, numbers: act(e, max(numbers[0], 1))


_ACTS: Final[dict[str, Callable[[Emulator, list[int]], object]]] = {
    "A": _one(lambda e, n: e.up(n)),
    "B": _one(lambda e, n: e.down(n)),
    "e": _one(lambda e, n: e.down(n)),
    "C": _one(lambda e, n: e.grid.move(e.grid.x + n, e.grid.y)),
    "a": _one(lambda e, n: e.grid.move(e.grid.x + n, e.grid.y)),
    "D": _one(lambda e, n: e.grid.move(e.grid.x - n, e.grid.y)),
    "E": _one(lambda e, n: e.down(n, 0)),
    "F": _one(lambda e, n: e.up(n, 0)),
    "G": _one(lambda e, n: e.grid.move(n - 1, e.grid.y)),
    "`": _one(lambda e, n: e.grid.move(n - 1, e.grid.y)),
    "d": _one(lambda e, n: e.go(e.grid.x, n - 1)),
    "H": lambda e, numbers: e.go(_second(numbers) - 1, max(numbers[0], 1) - 1),
    "f": lambda e, numbers: e.go(_second(numbers) - 1, max(numbers[0], 1) - 1),
    "I": _one(lambda e, n: e.grid.tab(n)),
    "Z": _one(lambda e, n: e.grid.tab_back(n)),
    "J": lambda e, numbers: e.erase_display(numbers[0]),
    "K": lambda e, numbers: e.erase_line(numbers[0]),
    "L": _one(lambda e, n: e.insert_lines(n, delete=False)),
    "M": _one(lambda e, n: e.insert_lines(n, delete=True)),
    "@": _one(lambda e, n: e.grid.rows[e.grid.y].insert(e.grid.x, min(n, e.columns), e.pen.erased)),
    "P": _one(lambda e, n: e.grid.rows[e.grid.y].delete(e.grid.x, n, e.pen.erased)),
    "X": _one(lambda e, n: e.grid.rows[e.grid.y].erase(e.grid.x, e.grid.x + n, e.pen.erased)),
    "S": _one(lambda e, n: e.grid.scroll_up(n, e.pen.erased)),
    "T": _one(lambda e, n: e.grid.scroll_down(n, e.pen.erased)),
    "b": _one(lambda e, n: e.repeat(n)),
    "g": lambda e, numbers: e.clear_tabs(numbers[0]),
    "h": lambda e, numbers: e.set_mode(numbers, on=True),
    "l": lambda e, numbers: e.set_mode(numbers, on=False),
    "r": lambda e, numbers: e.margins(numbers),
    "s": lambda e, _numbers: e.save(),
    "u": lambda e, _numbers: e.restore(),
}
