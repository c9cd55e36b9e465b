"""What `gk` knows of a terminal it follows, and what it lets through to the one it runs in."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.client.following import Following
from gatekeeper.client.sequences import Modes, Sieve, Text, asks, clipboard
from gatekeeper.kernel.terminal.term import (
    ACK_EVERY_BYTES,
    Ack,
    Attach,
    Hello,
    Lease,
    Mode,
    Output,
    Resize,
    Screen,
    Take,
    TermError,
)


def hello(**more: object) -> Hello:
    fields = {
        "terminal": "trm_x", "instance": "i", "mode": Mode.WRITE, "offset": 0, "columns": 80,
        "rows": 24, "holder": "dana", "mine": True, "expires_in": 60.0, "recorded": True, **more,
    }  # fmt: skip
    return Hello(**fields)  # type: ignore[arg-type]


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_over_any_number_of_connections_every_byte_is_drawn_once(
    data: bytes, cuts: list[int]
) -> None:
    following, drawn = Following(Mode.WRITE), b""
    for cut in [*cuts, len(data)]:
        attach = following.attach()
        assert isinstance(attach, Attach)
        # What is on its way when a cable is pulled may be told again, from anywhere before.
        begin = max(0, (attach.offset or 0) - cut % 7)
        for offset in range(begin, min(cut, len(data)) if cut < len(data) else len(data), 5):
            end = min(offset + 5, max(cut, offset))
            drawn += following.take_in(Output(offset, data[offset:end])).draw

    assert drawn == data


def test_bytes_that_are_missing_are_not_passed_over() -> None:
    following = Following(Mode.WRITE)
    following.take_in(Output(0, b"abc"))

    with pytest.raises(TermError, match="bytes 3 to 9"):
        following.take_in(Output(9, b"x"))


def test_a_screen_begins_anew_and_is_acknowledged_at_once() -> None:
    following = Following(Mode.WRITE)
    following.take_in(Output(0, b"abc"))
    told = following.take_in(Screen(900, b"\x1b[Hscreen"))

    assert told.draw == b"\x1b[Hscreen"
    assert told.note == "897 bytes passed unseen; the recording has them"
    assert told.answer == (Ack(900),)
    assert following.take_in(Output(900, b"more")).draw == b"more"
    assert following.attach() == Attach(904)


def test_what_was_drawn_is_acknowledged_at_least_as_often_as_agreed() -> None:
    following = Following(Mode.WRITE)
    following.take_in(Output(0, bytes(ACK_EVERY_BYTES - 1)))
    assert following.drawn() == ()
    following.take_in(Output(ACK_EVERY_BYTES - 1, b"x"))

    assert following.drawn() == (Ack(ACK_EVERY_BYTES),)
    assert following.drawn() == ()


def test_a_free_input_is_taken_and_a_taken_one_is_told_of() -> None:
    following = Following(Mode.WRITE, size=(100, 30))
    assert following.take_in(hello(mine=False, holder=None)).answer == (Take(),)
    assert following.take_in(Lease(holder="dana", mine=True)).answer == (Resize(100, 30),)
    lost = following.take_in(Lease(holder="olga", mine=False))

    assert lost.note == "olga took the input; you watch"
    assert following.resized(90, 20) == ()
    assert following.take_in(Lease(holder=None, mine=False)).answer == (Take(),)
    back = following.take_in(Lease(holder="dana", mine=True))
    assert (back.note, back.answer) == ("you have the input now", (Resize(90, 20),))


def test_a_reader_has_no_size_and_takes_nothing() -> None:
    following = Following(Mode.READ, size=(100, 30))

    assert following.attach() == Attach(None)
    assert following.take_in(hello(mine=False, holder=None)).answer == ()


def test_no_sandbox_is_said() -> None:
    assert "NO sandbox" in str(Following(Mode.WRITE).take_in(hello(unsandboxed=True)).note)


SEQUENCES = [
    b"\x1b[31m", b"\x1b[?1049h", b"\x1b]0;title\x07", b"\x1b]52;c;aGk=\x1b\\", b"\x1b(B", b"\x1bc",
    b"\x1bP$qm\x1b\\", b"\x1b[6n", b"\x1b[>c", b"\x1b[21t", b"\x1bZ", b"\x1b]11;?\x07", b"\x1b7",
]  # fmt: skip
STREAMS = st.lists(
    st.one_of(st.sampled_from(SEQUENCES), st.sampled_from([b"a", b"\r\n", b"\r", b"\xc3\xa9"]))
)


def fed(sieve: Sieve | Text, data: bytes, size: int) -> bytes:
    return b"".join(sieve.feed(data[i : i + size]) for i in range(0, len(data), size))


@given(parts=STREAMS, size=st.integers(1, 7))
def test_however_a_stream_is_cut_the_same_sequences_are_taken_out(
    parts: list[bytes], size: int
) -> None:
    kept = b"".join(part for part in parts if not clipboard(part))
    quiet = b"".join(part for part in parts if not asks(part))
    text = b"".join(part for part in parts if not part.startswith(b"\x1b"))
    text = re.sub(rb"\r*\n\r*", b"\n", text.strip(b"\r")).lstrip(b"\r")

    assert fed(Sieve(clipboard), b"".join(parts), size) == kept
    assert fed(Sieve(asks), b"".join(parts), size) == quiet
    assert fed(Text(), b"".join(parts), size) == text


def test_a_sequence_without_end_does_not_hold_a_stream_up() -> None:
    sieve = Sieve(clipboard)
    fed(sieve, b"\x1b]52;" + b"x" * 70_000, 4096)

    assert sieve.feed(b"after").endswith(b"after")


def test_modes_that_were_left_on_are_undone_and_no_others() -> None:
    modes = Modes()
    for piece in (
        b"\x1b[?1049h\x1b[?25",
        b"l\x1b[?1000;1006h",
        b"\x1b[?2004h\x1b[?2004l",
        b"\x1b[?9h",
    ):
        modes.feed(piece)

    assert modes.undo() == b"\x1b[?1000l\x1b[?1006l\x1b[?1049l\x1b[?25h"
