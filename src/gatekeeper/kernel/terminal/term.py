"""`gk.term.v1`: what a client and a runner say to each other over one WebSocket.

Binary messages carry a terminal's bytes; text messages are JSON objects with a `type`.

    client to runner                       runner to client
    00 input bytes                         01 offset(8, big endian) output bytes
    attach  offset?, columns?, rows?       02 offset(8, big endian) bytes that draw the screen
    ack     offset                         hello, size, lease, stage, viewers, notice, exit, pong
    resize  columns, rows
    take | release | end
    ping    t

An offset counts the terminal's output bytes since its start. A client first says `attach`,
with the last offset it has if it was here before: the runner answers `hello`, then sends
exactly what follows that offset; where it no longer has those bytes, or the client has none,
it sends a screen (02) and goes on from the offset that it names. A client acknowledges what it
has drawn; the runner has at most `WINDOW_BYTES` on their way to it.

`resize`, input and `prompt`-like things are the lease holder's; others' are ignored, and a
`notice` says so. docs/reference/terminal-protocol.md has it byte by byte.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

SUBPROTOCOL: Final = "gk.term.v1"
WINDOW_BYTES: Final = 262_144
"""Unacknowledged output on its way to one client. xterm.js gets slow above 500 KB pending."""
ACK_EVERY_BYTES: Final = 65_536
"""A client acknowledges at least this often."""
MAX_INPUT_BYTES: Final = 65_536
"""Of one input message."""
MAX_CONTROL_CHARS: Final = 4_096
"""Of one text message of a client."""
MAX_OUTPUT_BYTES: Final = 65_536
"""Of one output message."""
MAX_MESSAGE_BYTES: Final = 4_194_304
"""Of any message of a runner; only a screen comes near it."""
MAX_OFFSET: Final = 2**53 - 1
"""What JavaScript counts exactly."""
MAX_COLUMNS: Final = 1_000
MAX_ROWS: Final = 500

INPUT: Final = 0x00
OUTPUT: Final = 0x01
SCREEN: Final = 0x02
_HEAD: Final = struct.Struct(">BQ")


class Mode(StrEnum):
    """What a client may do with a terminal."""

    READ = "read"
    """Watch."""
    WRITE = "write"
    """Watch, and type while holding the input lease."""
    MODERATE = "moderate"
    """Watch, take the lease from anybody, and end the terminal."""


class TermError(ValueError):
    """The other side said what `gk.term.v1` does not know. The text is safe to show."""


@dataclass(frozen=True, slots=True)
class Input:
    data: bytes


@dataclass(frozen=True, slots=True)
class Attach:
    offset: int | None = None
    columns: int | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    offset: int


@dataclass(frozen=True, slots=True)
class Resize:
    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Take:
    """Take the input lease."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the input lease back."""


@dataclass(frozen=True, slots=True)
class End:
    """End the terminal; a moderator's, and the holder's."""


@dataclass(frozen=True, slots=True)
class Ping:
    t: int


FromClient = Input | Attach | Ack | Resize | Take | Release | End | Ping


@dataclass(frozen=True, slots=True)
class Output:
    offset: int
    """Of the first byte."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Screen:
    offset: int
    """What follows the screen has this offset."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    terminal: str
    instance: str
    mode: Mode
    offset: int
    """Where the output that follows begins."""
    columns: int
    rows: int
    holder: str | None
    """Who holds the input lease, by name; None for nobody."""
    mine: bool
    expires_in: float
    """Seconds."""
    recorded: bool
    unsandboxed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeChanged:
    columns: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    holder: str | None
    mine: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReached:
    stage: str
    at_seconds: float
    """Since the terminal's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewers:
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    ending: str
    code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    t: int


Said = Hello | SizeChanged | Lease | StageReached | Viewers | Notice | Exit | Pong
FromRunner = Output | Screen | Said

_SAID: Final[dict[str, type[Any]]] = {
    "hello": Hello,
    "size": SizeChanged,
    "lease": Lease,
    "stage": StageReached,
    "viewers": Viewers,
    "notice": Notice,
    "exit": Exit,
    "pong": Pong,
}
_NAMES: Final = {kind: name for name, kind in _SAID.items()}
_CAMEL: Final = {"expires_in": "expiresIn", "at_seconds": "atSeconds"}
_SNAKE: Final = {camel: snake for snake, camel in _CAMEL.items()}


def encode(message: FromRunner) -> bytes | str:
    """Return what a runner sends: bytes for a binary message, text for a text message."""
    match message:
        case Output(offset, data):
            return _HEAD.pack(OUTPUT, offset) + data
        case Screen(offset, data):
            return _HEAD.pack(SCREEN, offset) + data
        case _:
            fields = {_CAMEL.get(name, name): value for name, value in asdict(message).items()}
            return json.dumps({"type": _NAMES[type(message)], **fields}, separators=(",", ":"))


def read_client(message: bytes | str) -> FromClient:
    """Read what a client sent. Raises `TermError`."""
    if isinstance(message, str):
        return _read_control(message)
    if not message or message[0] != INPUT:
        msg = "a binary message of a client is input, and begins with 00"
        raise TermError(msg)
    if len(message) - 1 > MAX_INPUT_BYTES:
        msg = f"input has at most {MAX_INPUT_BYTES} bytes a message"
        raise TermError(msg)
    return Input(message[1:])


def encode_client(message: FromClient) -> bytes | str:
    """Return what a client sends."""
    if isinstance(message, Input):
        return bytes([INPUT]) + message.data
    fields = {name: value for name, value in asdict(message).items() if value is not None}
    return json.dumps({"type": type(message).__name__.lower(), **fields}, separators=(",", ":"))


def read_runner(message: bytes | str) -> FromRunner | None:
    """Read what a runner sent; None for a kind that this client does not know yet.

    Raises `TermError` for what is none at all.
    """
    if isinstance(message, bytes):
        if len(message) < _HEAD.size or message[0] not in {OUTPUT, SCREEN}:
            msg = "a binary message of a runner begins with 01 or 02 and an offset"
            raise TermError(msg)
        kind, offset = _HEAD.unpack_from(message)
        data = message[_HEAD.size :]
        return Output(offset, data) if kind == OUTPUT else Screen(offset, data)
    said = _object(message)
    known = _SAID.get(str(said.pop("type", None)))
    if known is None:
        return None
    try:
        fields = {_SNAKE.get(name, name): value for name, value in said.items()}
        names = known.__dataclass_fields__
        found: FromRunner = known(**{k: v for k, v in fields.items() if k in names})
    except TypeError as error:
        msg = "a message of the runner lacks a field"
        raise TermError(msg) from error
    return found


def _read_control(text: str) -> FromClient:
    if len(text) > MAX_CONTROL_CHARS:
        msg = f"a text message has at most {MAX_CONTROL_CHARS} characters"
        raise TermError(msg)
    said = _object(text)
    match said.get("type"):
        case "attach":
            offset = None if said.get("offset") is None else _number(said, "offset", MAX_OFFSET)
            if said.get("columns") is None:
                return Attach(offset)
            return Attach(offset, *_size(said))
        case "ack":
            return Ack(_number(said, "offset", MAX_OFFSET))
        case "resize":
            return Resize(*_size(said))
        case "take":
            return Take()
        case "release":
            return Release()
        case "end":
            return End()
        case "ping":
            return Ping(_number(said, "t", MAX_OFFSET))
        case _:
            msg = "a text message of a client is attach, ack, resize, take, release, end or ping"
            raise TermError(msg)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = "a text message is a JSON object"
        raise TermError(msg) from error
    if not isinstance(found, dict):
        msg = "a text message is a JSON object"
        raise TermError(msg)
    return found


def _size(said: dict[str, Any]) -> tuple[int, int]:
    return _number(said, "columns", MAX_COLUMNS, 1), _number(said, "rows", MAX_ROWS, 1)


def _number(said: dict[str, Any], name: str, most: int, least: int = 0) -> int:
    value = said.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        msg = f"{name} is a whole number from {least} to {most}"
        raise TermError(msg)
    return value
