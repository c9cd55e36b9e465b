"""`tty`: the protocol of ttyd 1.7, so that its clients can be served, and its servers fronted.

    client to server                        server to client, binary
    {"AuthToken", "columns", "rows"} first  0 output bytes
    0 input bytes                           1 the window's title
    1 {"columns", "rows"}                   2 preferences as JSON
    2 pause, 3 resume

A client's messages are text or binary; the first byte says which. Before the first JSON nothing
was started in ttyd, so a resize, a pause or a resume there does no harm, and input does.
Source: ttyd 1.7.7, src/protocol.c and html/src/components/terminal/xterm/index.ts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from gatekeeper.terminals.model import MAX_COLUMNS, MAX_ROWS

SUBPROTOCOL: Final = "tty"
MAX_INPUT_BYTES: Final = 65_536
"""Of one input message."""
MAX_CONTROL_BYTES: Final = 4_096
"""Of any other message of a client."""
MAX_TITLE_CHARS: Final = 256

_OBJECT: Final = ord("{")


class TtydError(ValueError):
    """The other side said what `tty` does not know. The text is safe to show."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first JSON: the client is there, this large; None where it did not say."""

    columns: int | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Input:
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing until `Resume`."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on."""


FromClient = Start | Input | Resize | Pause | Resume


def read_client(message: bytes | str) -> FromClient:
    """Read what a client sent. Raises `TtydError`."""
    data = message.encode(errors="replace") if isinstance(message, str) else message
    if not data:
        msg = "a message has a first byte"
        raise TtydError(msg)
    kind, rest = data[0], data[1:]
    if kind == ord("0"):
        return Input(_within(rest, MAX_INPUT_BYTES))
    _within(data, MAX_CONTROL_BYTES)
    if kind == _OBJECT:
        said = _object(data)
        return Start(_size(said, "columns", MAX_COLUMNS), _size(said, "rows", MAX_ROWS))
    if kind == ord("1"):
        return _resize(_object(rest))
    if kind == ord("2"):
        return Pause()
    if kind == ord("3"):
        return Resume()
    msg = "a message of a client begins with {, 0, 1, 2 or 3"
    raise TtydError(msg)


def output(data: bytes) -> bytes:
    return b"0" + data


def title(text: str) -> bytes:
    """Return the window's title: printable, and no longer than one is."""
    shown = "".join(char for char in text if char.isprintable())
    return b"1" + shown[:MAX_TITLE_CHARS].encode(errors="replace")


def preferences(wanted: dict[str, Any]) -> bytes:
    return b"2" + json.dumps(wanted, separators=(",", ":")).encode()


def _within(data: bytes, most: int) -> bytes:
    if len(data) > most:
        msg = f"such a message has at most {most} bytes"
        raise TtydError(msg)
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = "expected a JSON object"
        raise TtydError(msg) from error
    if not isinstance(found, dict):
        msg = "expected a JSON object"
        raise TtydError(msg)
    return found


def _resize(said: dict[str, Any]) -> Resize:
    columns, rows = _size(said, "columns", MAX_COLUMNS), _size(said, "rows", MAX_ROWS)
    if columns is None or rows is None:
        msg = f"a size is whole numbers, at most {MAX_COLUMNS} columns and {MAX_ROWS} rows"
        raise TtydError(msg)
    return Resize(columns, rows)


def _size(said: dict[str, Any], name: str, most: int) -> int | None:
    value = said.get(name)
    sound = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
    return value if sound else None
