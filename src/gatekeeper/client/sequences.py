"""Control sequences in a terminal's output (ECMA-48): kept or taken out, over any cut of bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SEQUENCE_BYTES: Final = 65_536
"""A longer one is no sequence: it is let through as it is."""

_WHOLE: Final = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI
    rb"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS, SOS, PM, APC: strings
    rb"|[ -/]*[0-OQ-WYZ\\`-~])"  # the short ones
)
_BEGUN: Final = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z"
)  # fmt: skip
_ASKS: Final = re.compile(rb"\x1b(?:[\]PX^_].*|\[[0-?]*[ -/]*[cntq]|Z)", re.DOTALL)
_CLIPBOARD: Final = re.compile(rb"\x1b\]52;.*", re.DOTALL)
_RETURNS: Final = re.compile(rb"\r*\n\r*")
"""Those beside a line feed move nothing."""
_MODE: Final = re.compile(rb"\x1b\[\?([0-9;]{1,64})([hl])")
_UNDO: Final = {
    b"1049": b"l", b"1047": b"l", b"47": b"l", b"25": b"h", b"7": b"h", b"1": b"l", b"5": b"l",
    b"1000": b"l", b"1002": b"l", b"1003": b"l", b"1004": b"l", b"1005": b"l", b"1006": b"l",
    b"1015": b"l", b"2004": b"l", b"2026": b"l",
}  # fmt: skip
"""Modes that outlive the program that set them, and how each is when nobody has."""


class Sieve:
    """Takes sequences out of a stream; what may be the beginning of one is held back."""

    def __init__(self, drop: Callable[[bytes], bool]) -> None:
        self._drop = drop
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        begun = _BEGUN.search(data, max(0, len(data) - MAX_SEQUENCE_BYTES))
        cut = len(data) if begun is None else begun.start()
        self._held = data[cut:]
        return _WHOLE.sub(lambda found: b"" if self._drop(found[0]) else found[0], data[:cut])

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return held


def clipboard(sequence: bytes) -> bool:
    """Whether it writes to, or reads, the clipboard of whoever looks on (OSC 52)."""
    return _CLIPBOARD.match(sequence) is not None


def asks(sequence: bytes) -> bool:
    """Whether a terminal may answer it, or it reaches outside of the screen."""
    return _ASKS.match(sequence) is not None


def every(_sequence: bytes) -> bool:
    return True


class Text:
    """Makes text of a terminal's output: no sequences, lines that end as lines of a file do.

    A carriage return that begins a line anew stays: progress bars write over themselves by it.
    """

    def __init__(self) -> None:
        self._sieve = Sieve(every)
        self._held = b""
        self._begins_line = True

    def feed(self, data: bytes) -> bytes:
        data = self._held + self._sieve.feed(data)
        self._held = data[len(data.rstrip(b"\r")) :]
        text = _RETURNS.sub(b"\n", data[: len(data) - len(self._held)])
        if self._begins_line:
            text = text.lstrip(b"\r")
        self._begins_line = text.endswith(b"\n") if text else self._begins_line
        return text


class Modes:
    """Knows which modes a terminal was left in."""

    def __init__(self) -> None:
        self._set: set[bytes] = set()
        self._tail = b""

    def feed(self, data: bytes) -> None:
        data = self._tail + data
        for modes, letter in _MODE.findall(data):
            for mode in modes.split(b";"):
                if mode in _UNDO:
                    (self._set.discard if letter == _UNDO[mode] else self._set.add)(mode)
        self._tail = data[data.rfind(b"\x1b") :][:80] if b"\x1b" in data else b""

    def undo(self) -> bytes:
        """Return what sets a terminal right again."""
        return b"".join(b"\x1b[?%b%b" % (mode, _UNDO[mode]) for mode in sorted(self._set))
