"""asciicast v3: a recording as lines of JSON, in segments that a chain of hashes holds together.

    {"version":3,"term":{"cols":80,"rows":24}}      the header, on the first line
    [0.25,"o","text"]                               seconds since the line before, code, data

Codes: `o` output, `i` input, `r` resize (`80x24`), `m` marker, `x` exit. Times are written in
milliseconds, and what rounding took from one is carried to the next. A recording is its segments
one after the other; `head_n = SHA-256(head_(n-1) || segment n)`, and head_0 is 32 zero bytes.
Source: https://docs.asciinema.org/manual/asciicast/v3/
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MEDIA_TYPE: Final = "application/x-asciicast"
FIRST_HEAD: Final = bytes(32)
MAX_SEGMENT_BYTES: Final = 1_048_576
MAX_SEGMENT_SECONDS: Final = 60.0
OPEN_SUFFIX: Final = ".open"
"""Of the file of a segment that is still being written, and has no head yet."""

Code = Literal["o", "i", "r", "m", "x"]


class CastError(ValueError):
    """This is no asciicast v3."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `after` is in seconds since the line before."""

    after: float
    code: str
    data: str


class CastWriter:
    """Makes lines. All times it is given are seconds since the recording began."""

    def __init__(self) -> None:
        self._told_ms = 0
        self._output = codecs.getincrementaldecoder("utf-8")("replace")

    @staticmethod
    def header(*, columns: int, rows: int, timestamp: int, **others: Any) -> bytes:  # noqa: ANN401  # JSON
        term = {"cols": columns, "rows": rows, "type": "xterm-256color"}
        return _line({"version": 3, "term": term, "timestamp": timestamp, **others})

    def decode(self, data: bytes) -> str:
        """Return output as text; a character that is not whole yet is held back."""
        return self._output.decode(data)

    def rest(self) -> str:
        """Return what was held back: no more comes."""
        return self._output.decode(b"", final=True)

    def event(self, at: float, code: Code, data: str) -> bytes:
        delta = max(round(at * 1000) - self._told_ms, 0)
        self._told_ms += delta
        return _line([delta / 1000, code, data])


class Chain:
    """The hash chain of a recording's segments."""

    def __init__(self) -> None:
        self.head = FIRST_HEAD
        self.segments = 0

    def add(self, segment: bytes) -> str:
        self.head = sha256(self.head + segment).digest()
        self.segments += 1
        return self.head.hex()


def heads(segments: Iterable[bytes]) -> list[str]:
    """Compute the head after each segment, from the bytes."""
    chain = Chain()
    return [chain.add(segment) for segment in segments]


def first_difference(segments: Iterable[bytes], told: Mapping[int, str]) -> int | None:
    """Return the number of the first segment that is not what was told of it; None for none.

    A head that was told of and has no segment any more is such a difference too.
    """
    found = heads(segments)
    for number in sorted(told):
        if number > len(found) or found[number - 1] != told[number]:
            return number
    return None


def segment_name(number: int) -> str:
    """Name the file of a segment; they are counted from 1."""
    return f"{number:06d}.cast"


def read(lines: Iterable[str]) -> tuple[dict[str, Any], Iterator[Event]]:
    """Read a recording: its header, and its events. Raises `CastError`, also while iterating."""
    iterator = iter(lines)
    header = _json(next(iterator, ""))
    if not isinstance(header, dict) or header.get("version") != 3:  # noqa: PLR2004  # v3
        msg = "the first line is not the header of an asciicast v3"
        raise CastError(msg)
    return header, _events(iterator)


def _events(lines: Iterator[str]) -> Iterator[Event]:
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        match _json(line):
            case [int() | float() as after, str() as code, str() as data, *_] if after >= 0:
                yield Event(float(after), code, data)
            case _:
                msg = "a line is not [seconds, code, data]"
                raise CastError(msg)


def _json(line: str) -> Any:  # noqa: ANN401  # JSON
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = "a line is not JSON"
        raise CastError(msg) from error


def _line(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace") + b"\n"
