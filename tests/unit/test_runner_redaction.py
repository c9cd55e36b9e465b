"""Secrets are in nothing that is kept of a terminal, however it wrote them; all else is as it was."""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatekeeper.kernel.terminal.recording import Header, encode_header, read_recording
from gatekeeper.terminals.protocol.asciicast import segment_name
from gatekeeper.terminals.protocol.redaction import (
    MAX_BETWEEN_CHARS,
    MAX_SEQUENCE_CHARS,
    REDACTED,
    Redactor,
    redacted_lines,
)
from gatekeeper.terminals.runner import recording as files
from gatekeeper.terminals.runner.recording import Recording, SegmentFiles
from gatekeeper.terminals.runner.screen import Screen
from gatekeeper.terminals.runner.screen.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

COLOURS = [
    "\x1b[31m", "\x1b[0m", "\x1b[38;5;200m", "\x1b[38:2::1:2:3m", "\x9b1m", "\x1b(B", "\x0f", "\x00",
    "\x1b]8;;http://x\x07", "\x1b]0;TITLE\x1b\\", "\x9dT\x9c", "\x1bP$q\x1b\\", "\x1b]T\x1b[m", "\x1b[K",
]  # fmt: skip
BREAKS = ["\r\n", " \r", "\r\n\x1b[K"]
"""A row ends here: as programs do it that know how wide the terminal is, readline among them."""
MARKS = sorted(COLOURS + BREAKS, key=len, reverse=True)
SECRETS = ["abab", "ababcd", "babbab", "cccc"]
REAL = ["hunter2!", "日本-secret", "correct horse battery", "k" + "Ab3_" * 10 + "-9"]


def pieces_of(text: AnyStr, at: list[int]) -> list[AnyStr]:
    places = sorted({0, len(text), *(n % (len(text) + 1) for n in at)})
    return [text[a:b] for a, b in pairwise(places)]


def fed(redactor: Redactor, pieces: list[str]) -> str:
    return "".join(map(redactor.feed, pieces)) + redactor.flush()


def redacted(text: str, secrets: list[str]) -> str:
    return fed(Redactor(secrets), [text])


def bare(text: str) -> str:
    """Return what is to be read of a text, without blanks: another way than the code's own."""
    for mark in MARKS:
        text = text.replace(mark, "")
    return text.replace(" ", "")


def has_secret(text: str, secrets: list[str]) -> bool:
    left = bare(text.replace(REDACTED, "|"))
    return any(bare(secret) in left for secret in secrets)


cuts = st.lists(st.integers(0, 10_000), max_size=12)
marked = st.lists(st.sampled_from([*"abcd", *MARKS]), max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(marked, cuts)
def test_a_text_in_pieces_is_redacted_as_the_whole_is(text: str, at: list[int]) -> None:
    told = fed(Redactor(SECRETS), pieces_of(text, at))

    assert told == redacted(text, SECRETS)
    assert not has_secret(told, SECRETS)


@settings(max_examples=200, deadline=None)
@given(marked | st.lists(st.sampled_from([*"abcd \x1b[]mXé日", *MARKS])).map("".join), cuts)
def test_a_text_without_secrets_is_told_as_it_is(text: str, at: list[int]) -> None:
    assume(not any(secret in bare(text) for secret in ("abab", "cccc", "babbab")))

    assert fed(Redactor(SECRETS), pieces_of(text, at)) == text


@settings(max_examples=200, deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")), cuts)
def test_any_text_is_told_as_it_is_where_it_holds_no_secret(text: str, at: list[int]) -> None:
    assert fed(Redactor(REAL), pieces_of(text, at)) == text


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str, str, list[str]]:
    """Return a secret, as a terminal may write it: marks between its characters, and around."""
    secret = draw(st.sampled_from(REAL))
    between = [draw(st.lists(st.sampled_from(MARKS), max_size=2)) for _ in secret[1:]]
    text = secret[0] + "".join(
        "".join(marks) + char for marks, char in zip(between, secret[1:], strict=True)
    )
    around = st.text("xyz é日.", max_size=12)
    return draw(around), text, draw(around), [mark for marks in between for mark in marks]


@settings(max_examples=200, deadline=None)
@given(written(), cuts)
def test_a_secret_is_taken_out_and_nothing_else(
    one: tuple[str, str, str, list[str]], at: list[int]
) -> None:
    before, secret, after, between = one

    told = fed(Redactor(REAL), pieces_of(before + secret + after, at))

    # A blank of the secret's own before a line's end is one of these, too.
    assert bare(told) == bare(before + REDACTED + after)
    assert told.startswith(before + REDACTED)
    assert told.endswith(after)
    assert all(mark in told for mark in between)


def recorded(pieces: list[bytes], size: tuple[int, int]) -> str:
    """Record pieces, each for itself; return what the recording has of output."""

    async def record(folder: Path) -> None:
        header = encode_header(Header(columns=size[0], rows=size[1], timestamp=1))
        taken = Recording(
            SegmentFiles(folder, header),
            secrets=REAL,
            closed=lambda _segment: None,
            failed=lambda: pytest.fail("it cannot be recorded"),
            resumed=lambda: None,
        )
        for piece in pieces:
            taken.note("o", piece)
            await asyncio.sleep(0)
        await taken.close(0)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(record(Path(folder)))
        data = (Path(folder) / segment_name(1)).read_bytes()
    _, events = read_recording(io.BytesIO(data))
    return "".join(event.data for event in events if event.code == "o")


async def looked(pieces: list[bytes], size: tuple[int, int], secrets: list[str]) -> tuple[str, ...]:
    screen = Screen(*size, secrets=secrets)
    for piece in pieces:
        screen.write(piece)
    return (await screen.look()).lines


@pytest.fixture(scope="module")
def at_once() -> Iterator[None]:
    """Every piece is an event of its own, written without a pause."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "TOGETHER_SECONDS", -1.0)
        patch.setattr(files, "WRITE_EVERY_SECONDS", 0.0)
        yield


@settings(max_examples=100, deadline=None)
@given(st.lists(written(), max_size=3), cuts, st.integers(2, 50), st.integers(1, 8))
@pytest.mark.usefixtures("at_once")
def test_no_recording_and_no_kept_screen_has_a_secret(
    parts: list[tuple[str, str, str, list[str]]], at: list[int], columns: int, rows: int
) -> None:
    """Wherever chunks, sequences, line ends, and the width of the terminal cut it apart."""
    data = "".join(before + secret + after for before, secret, after, _ in parts).encode()
    pieces, size = pieces_of(data, at), (columns, rows)

    output = recorded(pieces, size)
    played = Emulator(columns, rows)
    played.feed(output.encode())
    kept = asyncio.run(looked(pieces, size, REAL))

    assert not has_secret(output, REAL)
    assert output.count(REDACTED) == len(parts)
    assert not has_secret("".join(played.lines()), REAL)
    assert not has_secret("".join(kept), REAL)
    assert len(kept) == rows


@settings(max_examples=100, deadline=None)
@given(st.lists(written(), max_size=3), st.integers(2, 50), st.integers(1, 8))
def test_a_screen_without_secrets_is_kept_as_it_is(
    parts: list[tuple[str, str, str, list[str]]], columns: int, rows: int
) -> None:
    data, size = "".join(before + secret for before, secret, *_ in parts).encode(), (columns, rows)
    shown = Emulator(*size)
    shown.feed(data)

    assert asyncio.run(looked([data], size, ["elsewhere"])) == tuple(shown.lines())


def backwards(secret: str) -> str:
    """Draw a secret from its end to its begin: no recording is searched for that."""
    return "".join(f"\x1b[3;{at + 1}H{secret[at]}" for at in reversed(range(len(secret))))


@pytest.mark.parametrize("columns", [2, 3, 7, 8, 9, 60])
@pytest.mark.parametrize(
    ("secret", "text"),
    [
        *((secret, f"it is {secret} !") for secret in REAL),
        *((secret, "it is " + "\x1b[7m".join(secret)) for secret in REAL),
        ("hunter2!", "it is hunter3!\x1b[1D\b2\r\n"),
        ("hunter2!", "it is hunt2!\x1b[3D\x1b[2@er"),
    ],
)
async def test_viewers_see_a_secret_that_is_not_kept_of_the_screen(
    secret: str, text: str, columns: int
) -> None:
    screen = Screen(columns, 40, secrets=[secret])
    screen.write(text.encode())
    look = await screen.look()
    live = Emulator(columns, 40)
    live.feed(look.drawing)

    drawn = has_secret("".join(live.lines()), [secret])
    assert drawn or "\x1b[2@" in text or "\b" in text  # these need a row that is wide enough
    assert drawn == (REDACTED in "".join(look.lines))
    assert not has_secret("".join(look.lines), [secret])


async def test_a_secret_that_was_drawn_from_its_end_is_not_kept_of_the_screen() -> None:
    lines = await looked([backwards("hunter2!").encode()], (60, 5), ["hunter2!"])

    assert lines == ("", "", REDACTED, "", "")


def test_a_secret_in_a_title_or_a_link_is_taken_out() -> None:
    for sequence in ("\x1b]0;hunter2!\x07", "\x1b]8;;http://hunter2!\x1b\\", "\x9d2;hunter2!\x9c"):
        told = redacted(f"x{sequence}y", ["hunter2!"])
        assert told == f"x{sequence}y".replace("hunter2!", REDACTED)
    for begun in ("\x1b]0;hunter2!", "\x1b]0;hunter2!" + "x" * MAX_SEQUENCE_CHARS):
        assert redacted(begun, ["hunter2!"]) == begun.replace("hunter2!", REDACTED)


@given(cuts)
def test_a_secret_in_a_title_is_taken_out_wherever_the_title_is_cut(at: list[int]) -> None:
    text = "x\x1b]0;it is hunter2!\x07y\x1b]2;hunter2!\x1b\\z"

    told = fed(Redactor(REAL), pieces_of(text, at))

    assert told == text.replace("hunter2!", REDACTED)


def test_a_key_of_many_lines_is_found_however_they_end() -> None:
    key = "-----BEGIN KEY-----\nMIIabcdef\nghijkl==\n-----END KEY-----\n"

    assert redacted(f"a {key}b".replace("\n", "\r\n"), [key]).startswith(f"a {REDACTED}")
    assert not has_secret(redacted(key, [key]), ["MIIabcdef"])


def test_a_secret_in_another_that_is_let_go_is_taken_out() -> None:
    redactor = Redactor(["postgres://dana:hunter2!@host", "hunter2!"])
    begun = "p" + "\x1b[m" * MAX_BETWEEN_CHARS + "ostgres://dana:hunter2!@"

    assert redactor.feed(begun) == begun.replace("hunter2!", REDACTED)


def test_a_prompt_is_not_waited_on() -> None:
    redactor = Redactor(["hunter2!"])

    assert redactor.feed("$ ") == "$ "
    assert redactor.feed("\x1b") == "\x1b"
    assert redactor.feed("[31mhun") == "[31m"
    assert redactor.feed(" \r") == ""
    assert redactor.feed("ter2!") == f"{REDACTED} \r"


def test_what_is_too_short_to_be_a_secret_stays() -> None:
    assert redacted("cabbage", ["ab"]) == "cabbage"
    assert redacted("cabbage", ["a\x1b[mb\n "]) == "cabbage"


HOSTILE = [
    "\x1b[m", "\x07", "\n", " \r", "\x1b]", "\x1b[", "\x1b", "\x9b", "\x90", "\x1b]x\x07", "\x1bP" + "x" * 900,
    "\x9b" + " " * 900, " " * 900, "\x1b]" + "x" * (MAX_SEQUENCE_CHARS + 1), "hunter2", "hunter2!", "h\x1b[m",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_held_back_is_bounded_and_no_output_is_dear(text: str) -> None:
    """A begun secret, and then without end what may stand in one: nothing is read over and over."""
    secrets = ["hunter2!", "hu" * 20 + "!"]
    redactor, spent = Redactor(secrets), time.process_time()
    redactor.feed("hunter2")
    times = 200_000 // len(text)
    for count in (1, 7):
        for _ in range(min(times, 20_000) // count):
            redactor.feed(text * count)
            assert len(redactor._held) <= MAX_BETWEEN_CHARS + 2 * MAX_SEQUENCE_CHARS
    redactor.feed(text * times)
    assert time.process_time() - spent < 120  # looking again for each was minutes


def test_a_screen_full_of_secrets_is_no_more_work_than_any() -> None:
    rows = ["hunter2!" * 125] * 500
    spent = time.process_time()
    assert set("".join(redacted_lines(rows, ["hunter2!"]))) == set(REDACTED)
    assert time.process_time() - spent < 30
