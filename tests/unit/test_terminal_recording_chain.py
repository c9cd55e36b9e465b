"""A recording held against its chain: whatever was done to it is noticed, and named."""

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.client.recordings import Deletion, Recorded
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.terminal.recording import (
    FIRST_HEAD,
    Event,
    Header,
    Segment,
    check_segments,
    encode_event,
    encode_header,
    next_head,
    read_recording,
)
from gatekeeper.wire.audit import exported_event

PARTS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5)


def chained(parts: list[bytes]) -> list[Segment]:
    head, found = FIRST_HEAD, []
    for number, part in enumerate(parts, 1):
        head = next_head(head, part)
        found.append(Segment(number=number, bytes=len(part), head=head))
    return found


def check(data: bytes, segments: list[Segment]) -> str | None:
    return check_segments(io.BytesIO(data), segments)


@given(parts=PARTS)
def test_what_a_runner_chains_is_whole(parts: list[bytes]) -> None:
    segments = chained(parts)

    assert check(b"".join(parts), segments) is None
    head = bytes(32)
    for part, segment in zip(parts, segments, strict=True):
        head = hashlib.sha256(head + part).digest()
        assert segment.head == head.hex()


@given(parts=PARTS, data=st.data())
def test_every_change_is_noticed(parts: list[bytes], data: st.DataObject) -> None:
    whole, segments = b"".join(parts), chained(parts)
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]

    assert "was changed" in str(check(flipped, segments))
    assert "it ends within" in str(check(whole[:at], segments))
    assert "goes on after" in str(check(whole + b"x", segments))
    assert "is missing" in str(check(whole, segments[1:])) or len(parts) == 1
    assert check(whole, []) is not None


def test_the_chain_says_whose_recording_it_is() -> None:
    parts = [b"header\n", b"more\n"]
    lines = [
        exported_event(
            n, "0" * 64,
            b'{"data":{"told":{"bytes":%d,"head":"%s","segment":%d}},"kind":"terminal.recorded",'
            b'"session":"trm_a"}' % (segment.bytes, segment.head.encode(), segment.number),
        )
        for n, segment in enumerate(chained(parts), 1)
    ]  # fmt: skip
    recorded = Recorded()
    assert list(recorded.looking_at([b"header", *lines])) == [b"header", *lines]

    found = recorded.check(io.BytesIO(b"".join(parts)), None)
    assert (found.terminal, found.segments, found.wrong) == ("trm_a", 2, None)
    assert recorded.check(io.BytesIO(b"other\n"), None).terminal is None
    assert recorded.check(io.BytesIO(b"".join(parts)), "trm_b").wrong is not None


def test_a_copy_of_a_recording_that_was_deleted_is_whole_and_that_is_told() -> None:
    segments = chained(parts := [b"one\n", b"two\n"])
    told = [
        (one.number, "terminal.recorded",
         f'"told":{{"bytes":{one.bytes},"head":"{one.head}","segment":{one.number}}}')
        for one in segments
    ]  # fmt: skip
    told.append((3, "terminal.recording_deleted", '"reason":"retention"'))
    lines = [
        exported_event(
            seq, "0" * 64,
            f'{{"at":"2026-01-31T10:00:00.000000Z","data":{{{data}}},"kind":"{kind}",'
            f'"session":"trm_a"}}'.encode(),
        )
        for seq, kind, data in told
    ]  # fmt: skip
    recorded = Recorded()

    assert list(recorded.looking_at(lines)) == lines
    found = recorded.check(io.BytesIO(b"".join(parts)), "trm_a")
    assert (found.segments, found.wrong) == (2, None)
    assert found.deleted == Deletion("2026-01-31T10:00:00.000000Z", "retention")
    assert recorded.check(io.BytesIO(b"one\n"), "trm_a").wrong is not None


def test_a_recording_is_read_as_it_was_written() -> None:
    header = Header(columns=80, rows=24, timestamp=1_790_000_000, title="t")
    events = [Event(0.25, "o", "é\r\n\u2028"), Event(0.0, "r", "90x30"), Event(1.5, "x", "0")]
    data = encode_header(header) + b"".join(map(encode_event, events))

    read, found = read_recording(io.BytesIO(data + b'[0.1, "o", "cut o'))
    assert (read, list(found)) == (header, events)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}\n", b"nonsense\n", b'{"version": 2, "width": 80, "height": 24}\n', b"[" * 9_999,
     b'{"version":3,"term":{"cols":80,"rows":24}}\n{"no":"event"}\n',
     b'{"version":3,"term":{"cols":80,"rows":24}}\n["x","o","y"]\n'],
)  # fmt: skip
def test_what_is_no_recording_is_told(data: bytes) -> None:
    with pytest.raises(InputError, match="no (recording|event)|version 3"):
        list(read_recording(io.BytesIO(data))[1])
