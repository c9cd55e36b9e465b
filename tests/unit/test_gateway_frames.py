"""Frames are followed over any cuts: boundaries are found, and what is forbidden is."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.websocket_frames import frame
from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.terminals.protocol.frames import FrameTracker, Violation, close_frame

MAXIMUM = 200_000


@dataclass(frozen=True)
class Said:
    data: bytes
    ends: tuple[int, ...]
    """Where each frame ends."""


@st.composite
def conversations(draw: st.DrawFn) -> Said:
    """Draw a direction's bytes, as an honest client sends them."""
    data, ends = b"", []
    sizes = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536])
    for _ in range(draw(st.integers(1, 5))):
        parts = draw(st.integers(1, 3))
        for part in range(parts):
            if draw(st.booleans()):
                data += frame(b"p" * draw(st.integers(0, 125)), opcode=9)
                ends.append(len(data))
            size = draw(sizes)
            data += frame(b"x" * size, opcode=2 if part == 0 else 0, fin=part == parts - 1)
            ends.append(len(data))
    return Said(data, tuple(ends))


@given(conversations(), st.lists(st.integers(0, 400_000), max_size=20))
def test_boundaries_are_found_however_frames_are_cut(said: Said, cuts: list[int]) -> None:
    edges = sorted({0, len(said.data), *(cut % (len(said.data) + 1) for cut in cuts)})
    tracker = FrameTracker(masked=True, maximum=10 * MAXIMUM)
    for start, end in pairwise(edges):
        tracker.feed(said.data[start:end])
        inside = [edge for edge in (0, *said.ends) if start <= edge <= end]
        expected = inside[-1] - start if inside else -1
        assert tracker.boundary == expected
        assert tracker.between is (end in said.ends)


def test_nothing_of_a_chunk_is_kept_that_its_buffer_may_change() -> None:
    """A splice reads all of its clients into one buffer."""
    data = frame(b"x" * 300) + frame(b"y")
    for cut in range(1, len(data)):
        tracker, buffer = FrameTracker(masked=True, maximum=MAXIMUM), bytearray(len(data))
        for chunk in (data[:cut], data[cut:]):
            buffer[: len(chunk)] = chunk
            tracker.feed(memoryview(buffer)[: len(chunk)])
            buffer[:] = b"\xff" * len(data)
        assert tracker.between


def test_single_bytes_are_a_direction_too() -> None:
    tracker = FrameTracker(masked=True, maximum=MAXIMUM)
    data = frame(b"x" * 300) + frame(b"", opcode=9) + frame(b"\x03\xe8", opcode=8)
    for number in range(len(data)):
        tracker.feed(data[number : number + 1])
    assert tracker.closed
    assert tracker.between
    with pytest.raises(Violation, match="follows a close"):
        tracker.feed(frame(b"more"))


FORBIDDEN = [
    (frame(b"x", masked=False), CloseCode.PROTOCOL_ERROR),
    (frame(b"x", opcode=0x12), CloseCode.PROTOCOL_ERROR),
    (frame(b"x", opcode=0x22), CloseCode.PROTOCOL_ERROR),
    (frame(b"x", opcode=0x42), CloseCode.PROTOCOL_ERROR),
    *((frame(b"x", opcode=opcode), CloseCode.PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 15)),
    *((frame(b"", opcode=opcode, fin=False), CloseCode.PROTOCOL_ERROR) for opcode in (8, 9, 10)),
    *((frame(b"x" * 126, opcode=opcode), CloseCode.PROTOCOL_ERROR) for opcode in (8, 9, 10)),
    (frame(b"x", opcode=8), CloseCode.PROTOCOL_ERROR),
    (frame(b"x", opcode=0), CloseCode.PROTOCOL_ERROR),
    (frame(b"x", fin=False) + frame(b"x", opcode=1), CloseCode.PROTOCOL_ERROR),
    (frame(b"x", fin=False) + frame(b"x", opcode=0) + frame(b"x", opcode=0),
     CloseCode.PROTOCOL_ERROR),
    (b"\x82\xfe\x00\x7d" + bytes(4 + 125), CloseCode.PROTOCOL_ERROR),
    (b"\x82\xff" + (65_535).to_bytes(8) + bytes(4), CloseCode.PROTOCOL_ERROR),
    (b"\x82\xff" + (MAXIMUM + 1).to_bytes(8), CloseCode.TOO_LARGE),
    (b"\x82\xff\x80" + bytes(7), CloseCode.TOO_LARGE),
    (frame(b"x" * 150_000, fin=False) + frame(b"x" * 60_000, opcode=0)[:4], CloseCode.TOO_LARGE),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code"), FORBIDDEN)
def test_what_is_forbidden_is_found_by_the_head_alone(data: bytes, code: CloseCode) -> None:
    whole = FrameTracker(masked=True, maximum=MAXIMUM)
    with pytest.raises(Violation) as found:
        whole.feed(data)
    assert found.value.code is code
    cut = FrameTracker(masked=True, maximum=MAXIMUM)
    with pytest.raises(Violation) as again:
        for number in range(len(data)):
            cut.feed(data[number : number + 1])
    assert again.value.code is code


def test_messages_may_be_many_but_not_large() -> None:
    tracker = FrameTracker(masked=True, maximum=1_000)
    for _ in range(10):
        tracker.feed(frame(b"x" * 500, fin=False) + frame(b"x" * 500, opcode=0))


def test_a_close_frame_carries_what_fits() -> None:
    assert close_frame(4401, "revoked") == b"\x88\x09\x11\x31revoked"
    long = close_frame(4000, "é" * 200)
    tracker = FrameTracker(masked=False, maximum=MAXIMUM)
    tracker.feed(long)
    assert tracker.closed
    assert long[4:].decode() == "é" * 61
