"""Recordings: taken from the server, or from a file, and held against the evidence."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from gatekeeper.client import operations
from gatekeeper.kernel.audit import AuditKind
from gatekeeper.kernel.terminal.recording import (
    FIRST_HEAD,
    Segment,
    check_segments,
    next_head,
    read_recording,
)
from gatekeeper.wire.audit import EXPORTED_EVENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatekeeper.client.api import Client
    from gatekeeper.kernel.terminal.recording import Event, Header

_LOOKED_FOR = tuple(
    b'"kind":"%b"' % kind.value.encode()
    for kind in (AuditKind.TERMINAL_RECORDED, AuditKind.TERMINAL_RECORDING_DELETED)
)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a chain says of a recording that is no more."""

    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of a recording."""

    terminal: str | None
    segments: int
    wrong: str | None
    """None: it is what was recorded, all of it."""
    deleted: Deletion | None = None
    """Of the server's own, while this is a copy."""


class _Chunks(io.RawIOBase):
    """A download as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # a buffer
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        taken = self._rest[: len(buffer)]
        self._rest = self._rest[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


@contextmanager
def downloaded(client: Client, terminal: str) -> Iterator[IO[bytes]]:
    """Take a terminal's recording from the server. Raises `GatekeeperError`."""
    with client.download(operations.terminal_recording(terminal)) as chunks:
        yield io.BufferedReader(_Chunks(chunks))


@contextmanager
def opened(client: Client, terminal: str) -> Iterator[tuple[Header, Iterator[Event]]]:
    """Take it from the server, and read it as it comes."""
    with downloaded(client, terminal) as file:
        yield read_recording(file)


class Recorded:
    """What a chain says of recordings. Fed with the lines of an export, it keeps what it needs."""

    def __init__(self) -> None:
        self._segments: dict[str, list[Segment]] = {}
        self._deleted: dict[str, Deletion] = {}

    def looking_at(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Pass lines on, and look at each."""
        for line in lines:
            if any(kind in line for kind in _LOOKED_FOR) and (
                event := EXPORTED_EVENT.fullmatch(line)
            ):
                self._take(event[3])
            yield line

    def check(self, file: IO[bytes], terminal: str | None) -> Finding:
        """Hold a recording against the evidence; without an id, find whose it is."""
        terminal = terminal or self._whose(file)
        if terminal is None:
            return Finding(None, 0, "no terminal in the evidence has a recording that begins so")
        segments = sorted(self._segments.get(terminal, ()), key=lambda one: one.number)
        wrong = check_segments(file, segments)
        return Finding(terminal, len(segments), wrong, self._deleted.get(terminal))

    def _take(self, canonical: bytes) -> None:
        fields = json.loads(canonical)
        match fields["kind"]:
            case AuditKind.TERMINAL_RECORDED:
                self._take_segment(fields)
            case AuditKind.TERMINAL_RECORDING_DELETED:
                deletion = Deletion(str(fields["at"]), str(fields["data"]["reason"]))
                self._deleted[str(fields["session"])] = deletion

    def _take_segment(self, fields: Any) -> None:  # noqa: ANN401  # JSON
        told = fields["data"]["told"]
        segment = Segment(
            number=int(told["segment"]), bytes=int(told["bytes"]), head=str(told["head"])
        )
        self._segments.setdefault(str(fields["session"]), []).append(segment)

    def _whose(self, file: IO[bytes]) -> str | None:
        for terminal, segments in self._segments.items():
            for first in (one for one in segments if one.number == 1):
                begin = file.read(first.bytes)
                file.seek(0)
                if next_head(FIRST_HEAD, begin) == first.head:
                    return terminal
        return None
