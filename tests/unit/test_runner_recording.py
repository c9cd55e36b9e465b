"""Recordings: times that do not drift, segments in a chain."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.kernel.terminal.recording import (
    Header,
    Segment,
    check_segments,
    encode_header,
    read_recording,
)
from gatekeeper.terminals.protocol.asciicast import CastWriter, segment_name
from gatekeeper.terminals.runner import recording as files
from gatekeeper.terminals.runner.recording import SegmentFiles

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@given(st.lists(st.floats(0, 10), max_size=200))
def test_rounded_times_do_not_drift(steps: list[float]) -> None:
    writer, at, told = CastWriter(), 0.0, 0.0
    for step in steps:
        at += step
        told += json.loads(writer.event(at, "o", ""))[0]
        assert abs(told - at) <= 0.00051


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_a_character_is_never_cut(text: str, at: list[int]) -> None:
    data, writer = text.encode(errors="replace"), CastWriter()
    places = sorted({0, len(data), *(n % (len(data) + 1) for n in at)})

    told = "".join(writer.decode(data[a:b]) for a, b in pairwise(places)) + writer.rest()

    assert told == data.decode()


def test_segments_are_chained_and_every_change_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_SEGMENT_BYTES", 200)
    writer, cast = (
        SegmentFiles(tmp_path, encode_header(Header(columns=80, rows=24, timestamp=1))),
        CastWriter(),
    )
    closed = [writer.write(cast.event(n, "o", "x" * 40), float(n)) for n in range(9)]
    segments = [one for one in (*closed, writer.close()) if one is not None]

    assert [one.number for one in segments] == list(range(1, len(segments) + 1))
    assert len(segments) > 2
    data = b"".join((tmp_path / segment_name(one.number)).read_bytes() for one in segments)
    assert check_segments(io.BytesIO(data), segments) is None
    _, events = read_recording(io.BytesIO(data))
    assert "".join(event.data for event in events) == "x" * 360
    for place in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        assert check_segments(io.BytesIO(bytes(changed)), segments) is not None
    assert writer.total == len(data)


def test_an_old_segment_is_closed_though_it_is_small(tmp_path: Path) -> None:
    writer = SegmentFiles(tmp_path, b"{}\n")
    assert writer.write(b"1\n", 0.0) is None
    assert [path.name for path in tmp_path.iterdir()] == ["000001.cast.open"]
    assert writer.write(b"2\n", 61.0) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["000001.cast"]
    assert writer.close() is None


async def test_a_disk_that_falls_behind_within_a_write_lets_the_terminal_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "HIGH_WATER_BYTES", 100)
    monkeypatch.setattr(files, "WRITE_EVERY_SECONDS", 0.0)
    writing, written = threading.Event(), threading.Event()

    class Slow(SegmentFiles):
        def write(self, lines: bytes, at: float) -> Segment | None:
            writing.set()
            written.wait(10)
            return super().write(lines, at)

    resumed = asyncio.Event()
    taken = files.Recording(
        Slow(tmp_path, b"{}\n"),
        secrets=(),
        closed=lambda _segment: None,
        failed=lambda: None,
        resumed=resumed.set,
    )
    taken.note("o", b"x")
    await asyncio.to_thread(writing.wait, 10)
    assert not taken.full
    taken.note("o", b"x" * 100)
    assert taken.full
    written.set()
    async with asyncio.timeout(10):
        await resumed.wait()
    await taken.close()
    assert not taken.failed
