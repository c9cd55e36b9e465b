r"""Recordings: asciicast v3 (docs.asciinema.org/manual/asciicast/v3), and the chain over them.

    {"version": 3, "term": {"cols": 80, "rows": 24}, "timestamp": 1790000000}
    [0.248, "o", "hello\r\n"]

A line is JSON; an event's time counts in seconds from the event before it. The file is the
concatenation of its segments, and the chain's heads are

    head_0 = 32 zero bytes            head_n = SHA-256(head_{n-1} || bytes of segment n)

so whoever has the heads in evidence, and the length of each segment, sees any change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Final, Literal

from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERSION: Final = 3
FIRST_HEAD: Final = "0" * 64
MAX_LINE_BYTES: Final = 1_048_576
"""Of one event; a longer one is none of ours."""

Code = Literal["o", "i", "m", "r", "x"]
"""Output, input, marker, resize (`COLSxROWS`), exit (its status)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    columns: int
    rows: int
    timestamp: int
    """When it began: seconds of the Unix clock."""
    title: str | None = None
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    interval: float
    """Seconds since the event before."""
    code: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What evidence says of one segment."""

    number: int
    """From 1."""
    bytes: int
    """Of this segment alone."""
    head: str


def next_head(head: str, segment: bytes) -> str:
    """Return the chain's head after one more segment: 64 hex digits."""
    return sha256(bytes.fromhex(head) + segment).hexdigest()


def encode_header(header: Header) -> bytes:
    fields = {
        "version": VERSION,
        "term": {"cols": header.columns, "rows": header.rows, "type": "xterm-256color"},
        "timestamp": header.timestamp,
        "title": header.title,
        "command": header.command,
    }
    return _line({name: value for name, value in fields.items() if value is not None})


def encode_event(event: Event) -> bytes:
    return _line([round(event.interval, 6), event.code, event.data])


def read_recording(file: IO[bytes]) -> tuple[Header, Iterator[Event]]:
    """Read the header; the events are read as they are asked for.

    Raises `InputError` for what is no recording. A last line that was cut off is left out.
    """
    return _header(file.readline(MAX_LINE_BYTES)), _events(file)


def check_segments(file: IO[bytes], segments: Iterable[Segment]) -> str | None:
    """Hold a recording against what evidence says of it; return what is wrong, or None."""
    head, seen = FIRST_HEAD, 0
    for expected, segment in enumerate(segments, 1):
        if segment.number != expected:
            return f"evidence of segment {expected} is missing"
        data = file.read(segment.bytes)
        if len(data) < segment.bytes:
            return f"it ends within segment {segment.number}, after {seen + len(data)} bytes"
        head = next_head(head, data)
        if head != segment.head:
            return (
                f"segment {segment.number} (bytes {seen} to {seen + len(data)}) was changed:"
                f" its chain's head is {head}, evidence says {segment.head}"
            )
        seen += len(data)
    if file.read(1):
        return f"it goes on after byte {seen}, where the evidence ends"
    return None if seen else "there is no evidence of it"


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _header(line: bytes) -> Header:
    try:
        said = json.loads(line)
        if said["version"] != VERSION:
            msg = f"expected asciicast version {VERSION}"
            raise InputError(msg)
        size = said["term"]
        return Header(
            columns=int(size["cols"]),
            rows=int(size["rows"]),
            timestamp=int(said.get("timestamp") or 0),
            title=said.get("title"),
            command=said.get("command"),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = "this is no recording: its first line is no header of asciicast v3"
        raise InputError(msg) from error


def _events(file: IO[bytes]) -> Iterator[Event]:
    while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
        if line.startswith(b"#") or not line.strip():
            continue
        try:
            interval, code, data = json.loads(line)
            yield Event(max(0.0, float(interval)), str(code), str(data))
        except (ValueError, TypeError, RecursionError) as error:
            msg = "the recording has a line that is no event of asciicast v3"
            raise InputError(msg) from error
