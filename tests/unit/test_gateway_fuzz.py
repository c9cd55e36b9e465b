"""More than a million inputs for the parsers that strangers reach; they refuse or understand."""

import random  # noqa: TID251  # a seed makes a failure come again
from typing import Final

import pytest

from factories.websocket_frames import frame
from gatekeeper.terminals.protocol import handshake
from gatekeeper.terminals.protocol.frames import FrameTracker, Violation
from gatekeeper.terminals.protocol.handshake import Refused, Upgrade
from gatekeeper.terminals.protocol.http import (
    MAX_HEAD_BYTES,
    HeadReader,
    Malformed,
    read_request,
    read_response,
)

INPUTS: Final = 600_000
GOOD: Final = (
    b"GET /attach/trm_aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nOrigin: https://a.example\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: gk.term.v1, ticket.a.b.c\r\n\r\n"
)
PIECES: Final = (
    b"\r\n", b"\n", b"\r", b"\x00", b":", b" ", b"\t", b",", b"\r\n\r\n", b"Host: x\r\n", b"\xff",
    b"Origin: y\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"%00", b"/../",
    b"ticket.", b"tty", b"Sec-WebSocket-Protocol: tty\r\n", b"HTTP/1.1", b"\r\n ",
)  # fmt: skip
STATES: Final = {400, 401, 404, 405, 414, 426, 431}


def mangled(chance: random.Random, data: bytes) -> bytes:
    text = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text[at:at] = chance.choice(PIECES)
            case 1:
                del text[at : at + chance.randint(1, 12)]
            case 2:
                text[at : at + 1] = bytes((chance.randrange(256),))
            case _:
                end = chance.randrange(len(text) + 1)
                text[at:at] = text[min(at, end) : max(at, end)]
    return bytes(text)


def judge_head(data: bytes, cut: int) -> None:
    reader = HeadReader()
    found = reader.feed(data[:cut]) or reader.feed(data[cut:])
    if found is None:
        return
    if isinstance(found, Malformed):
        assert found.status in (400, 431)
        return
    head, rest = found
    if reader.begun or len(head) + len(rest) > len(data):
        raise AssertionError(data)
    read_response(head)
    request = read_request(head)
    asked = request if isinstance(request, Malformed) else handshake.read_upgrade(request)
    if isinstance(asked, Upgrade):
        # What was understood was there in plain sight, once, and nothing else of its kind.
        lower = head.lower()
        assert lower.count(b"\r\nhost:") == 1
        assert lower.count(b"\r\norigin:") == (asked.origin is not None)
        assert b"\r\ncontent-length:" not in lower
        assert b"\r\ntransfer-encoding:" not in lower
        assert not any(byte in head for byte in b"\x00\x0b\x7f")
        handshake.accepted(asked)
    else:
        assert isinstance(asked, Refused | Malformed)
        assert asked.status in STATES


@pytest.mark.slow
def test_no_head_surprises_the_parser() -> None:
    chance = random.Random(5)  # noqa: S311
    for _ in range(INPUTS):
        data = mangled(chance, GOOD)
        judge_head(data, chance.randrange(len(data) + 1))
    for _ in range(INPUTS // 20):
        judge_head(chance.randbytes(chance.randint(1, MAX_HEAD_BYTES // 40)), 0)


def follow(data: bytes, *, masked: bool, size: int) -> str | list[int]:
    """Follow bytes in chunks; return the boundaries that were found, or why it ended."""
    tracker = FrameTracker(masked=masked, maximum=5_000)
    found = []
    for at in range(0, len(data), size):
        chunk = data[at : at + size]
        try:
            tracker.feed(chunk)
        except Violation as violation:
            return violation.reason
        assert -1 <= tracker.boundary <= len(chunk)
        if tracker.between:
            found.append(at + len(chunk))
            assert tracker.boundary == len(chunk)
    return found


@pytest.mark.slow
def test_no_bytes_surprise_the_tracker_and_cuts_change_nothing() -> None:
    chance = random.Random(6)  # noqa: S311
    for _ in range(INPUTS):
        masked = chance.random() < 0.5
        data = b"".join(
            frame(
                bytes(chance.choice((0, 1, 5, 125, 126, 300))),
                opcode=chance.choice((0, 1, 2, 2, 8, 9, 10)),
                fin=chance.random() < 0.8,
                masked=masked,
            )
            for _ in range(chance.randint(1, 4))
        )
        if chance.random() < 0.5:
            data = mangled(chance, data)
        whole, cut = (
            follow(data, masked=masked, size=size)
            for size in (len(data) or 1, chance.randint(1, 9))
        )
        if isinstance(whole, str):
            assert isinstance(cut, str)
        elif whole:
            assert isinstance(cut, list)
            assert cut[-1] == whole[-1]
