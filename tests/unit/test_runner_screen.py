"""What a terminal shows, and that a snapshot of it draws the same, and nothing that answers."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.kernel.terminal import term
from gatekeeper.kernel.terminal.term import MAX_COLUMNS, MAX_ROWS
from gatekeeper.terminals.runner import screen
from gatekeeper.terminals.runner.screen import KEPT_BYTES, MOST_WAITING_BYTES, Screen
from gatekeeper.terminals.runner.screen.emulator import Emulator
from gatekeeper.terminals.runner.screen.grid import Row
from gatekeeper.terminals.runner.screen.snapshot import snapshot

if TYPE_CHECKING:
    from gatekeeper.terminals.runner.screen.grid import Grid

COLUMNS, ROWS = 12, 5


def shown(data: bytes | str, columns: int = COLUMNS, rows: int = ROWS) -> Emulator:
    screen = Emulator(columns, rows)
    screen.feed(data.encode() if isinstance(data, str) else data)
    return screen


def state(screen: Emulator) -> object:
    def cells(grid: Grid | None) -> object:
        return grid and [(row.chars, row.looks) for row in grid.rows]

    grid = screen.grid
    return (
        cells(screen.main),
        cells(screen.alternate),
        (grid.x, grid.y, grid.full, grid.top, grid.bottom),
        (screen.pen.look, screen.modes, screen.title, screen.keypad, screen.origin),
        (screen.insert, screen.cursor_style, screen.charsets, screen.shift),
    )


SAFE = re.compile(
    r"[^\x00-\x1f\x7f-\x9f]|\x1b\[[0-9;]*[HJmr]|\x1b\[\?[0-9;]*[hl]|\x1b\[4[hl]|\x1b\[!p|\x1b\[[0-6] q"
    r"|\x1b[=>]|\x1b[()][0B]|\x1b\]2;[^\x00-\x1f\x7f-\x9f]{0,256}\x1b\\|[\x0e\x0f]"
)
HOSTILE = [
    "\x1b[c", "\x1b[>c", "\x1b[=c", "\x1b[6n", "\x1b[?6n", "\x1b[5n", "\x1b[18t", "\x1b[21t", "\x05",
    "\x1bP$qm\x1b\\", "\x1bP+q544e\x1b\\", "\x1b]52;c;aGk=\x07", "\x1b]52;c;?\x07", "\x1b]10;?\x07",
    "\x1b]4;1;?\x07", "\x1b]8;;http://evil\x07link\x1b]8;;\x07", "\x1b]2;a\x9cb\x07",
    "\x1b]0;x\x1b[6n\x07", "\x1bZ", "\x9bc", "\x9d52;c;aGk=\x9c", "\x90$qm\x9c", "\x1b_G;\x1b\\",
    "\x1b]1337;File=:aGk=\x07", "\x1b[?2026h", "\x1b[?1049h\x1b[?1049h", "\x1b]50;?\x07", "\x1b[>0q",
    "\x1b[?u", "\x1b[>1u", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\", "\x1b[99999999999999999999A", "\x1b]",
    "\x1bP", "\x1b[", "\x1b",
]  # fmt: skip
ORDINARY = [
    "a", "word ", "\r\n", "\n", "\b", "\t", "日", "é", "e\u0301", "👩‍👩‍👧", "x" * 13, "\x1b[31m", "\x1b[1;4m",
    "\x1b[48;5;200m", "\x1b[38;2;1;2;3m", "\x1b[38:2::1:2:3m", "\x1b[0m", "\x1b[7m", "\x1b[2J", "\x1b[J",
    "\x1b[1J", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[3;4H", "\x1b[H", "\x1b[A", "\x1b[2B", "\x1b[3C",
    "\x1b[D", "\x1b[5G", "\x1b[2d", "\x1b[L", "\x1b[2M", "\x1b[2@", "\x1b[3P", "\x1b[2X", "\x1b[S", "\x1b[T",
    "\x1b[3b", "\x1b[2;4r", "\x1b[r", "\x1bM", "\x1bD", "\x1bE", "\x1b7", "\x1b8", "\x1b[s", "\x1b[u",
    "\x1b[?1049h", "\x1b[?1049l", "\x1b[?47h", "\x1b[?25l", "\x1b[?25h", "\x1b[?7l", "\x1b[?7h",
    "\x1b[?2004h", "\x1b[?1000;1006h", "\x1b[?1l", "\x1b[?1h", "\x1b[?6h", "\x1b[?6l", "\x1b[4h", "\x1b[4l",
    "\x1b(0", "\x1b(B", "\x0e", "\x0f", "\x1b)0", "qqx", "\x1b]0;title\x07", "\x1b]2;t\x1b\\", "\x1b=", "\x1b>",
    "\x1b[3 q", "\x1bc", "\x1b[!p", "\x1b#8", "\x1bH", "\x1b[g", "\x1b[3g", "\x1b[I", "\x1b[Z",
]  # fmt: skip
stream = st.lists(st.sampled_from(ORDINARY + HOSTILE) | st.text(max_size=6), max_size=25).map(
    "".join
)


@settings(max_examples=150, deadline=None)
@given(stream)
def test_a_snapshot_draws_the_same_on_any_terminal(data: str) -> None:
    screen, other = (
        shown(data),
        shown("\x1b[?1049hrubbish\x1b[31m\x1b[2;3r\x1b[?1000h\x1b(0\x1b[4h"),
    )

    other.feed(snapshot(screen))

    expected, drawn = state(screen), state(other)
    assert drawn == expected or not screen.title  # a title is not taken away
    assert drawn[:3] == expected[:3]  # type: ignore[index]


@settings(max_examples=150, deadline=None)
@given(stream)
def test_a_snapshot_has_nothing_that_a_terminal_would_answer_or_obey(data: str) -> None:
    text = snapshot(shown(data)).decode()

    assert SAFE.sub("", text) == ""


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=60) | stream.map(lambda text: text.encode(errors="replace")), st.data())
def test_pieces_show_what_the_whole_shows(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data)))
    pieces = Emulator(COLUMNS, ROWS)
    pieces.feed(data[:at])
    pieces.feed(data[at:])

    assert state(pieces) == state(shown(data))
    grid = pieces.grid
    assert 0 <= grid.x < COLUMNS
    assert 0 <= grid.y < ROWS
    assert (
        {len(row.chars) for row in grid.rows} == {len(row.looks) for row in grid.rows} == {COLUMNS}
    )


PLAIN = [piece for piece in ORDINARY if piece in {
    "a", "word ", "\r\n", "\n", "\b", "\x1b[31m", "\x1b[0m", "\x1b[2J", "\x1b[J", "\x1b[1J", "\x1b[K",
    "\x1b[3;4H", "\x1b[H", "\x1b[A", "\x1b[2B", "\x1b[5G", "\x1b[2d", "\x1bM", "\x1bD",
    "\x1b[2@", "\x1b[3P", "\x1b[2X",
}]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(PLAIN), max_size=12).map("".join))
def test_another_terminal_shows_the_same(data: str) -> None:
    """pyte is held against it where both know what to do: it knows no half of a wide
    character, and leaves lines that it is to delete where nothing was written below."""
    other = pyte.Screen(40, 10)
    pyte.Stream(other).feed(data)
    screen = shown(data, 40, 10)

    assert screen.lines() == [line.rstrip() for line in other.display]
    assert (screen.grid.x, screen.grid.y) == (other.cursor.x, other.cursor.y)


def test_the_largest_screen_fits_into_one_message_whatever_is_in_it() -> None:
    screen = Emulator(MAX_COLUMNS, MAX_ROWS)
    rows = [Row(MAX_COLUMNS) for _ in range(MAX_ROWS)]
    for row in rows:  # as a command fills it in a minute or two
        row.chars = ["\U0001d400" + "\u0301" * 15] * MAX_COLUMNS
        row.looks = [f"38;2;{n % 256};200;200;48;2;100;100;100" for n in range(MAX_COLUMNS)]
    screen.feed(b"\x1b[?1049h\x1b]2;" + b"t" * 300 + b"\x07")
    assert screen.alternate is not None
    screen.main.rows = screen.alternate.rows = rows

    drawn = snapshot(screen)

    assert len(term.encode(term.Screen(term.MAX_OFFSET, drawn))) <= term.MAX_MESSAGE_BYTES
    assert drawn.count("\U0001d400".encode()) >= 2 * MAX_COLUMNS * MAX_ROWS


def test_wide_characters_take_two_cells_and_are_never_cut_in_two() -> None:
    assert shown("日本").lines()[0] == "日本"
    assert shown("日本\x1b[2Gx").lines()[0] == " x本"
    assert shown("日本\x1b[3Gx").lines()[0] == "日x"
    assert shown("x" * 11 + "日").lines()[:2] == ["x" * 11, "日"]


def test_the_main_screen_is_as_it_was_when_the_alternate_one_goes() -> None:
    screen = shown("shell$ vim\x1b[?1049h\x1b[2J\x1b[Hfile")
    assert screen.lines()[0] == "file"
    late = shown(b"")
    late.feed(snapshot(screen))
    late.feed(b"\x1b[?1049l!")

    assert late.lines()[0] == "shell$ vim!"


def test_a_smaller_size_keeps_the_line_of_the_cursor() -> None:
    screen = shown("1\r\n2\r\n3\r\n4\r\n5")
    screen.resize(12, 2)
    assert screen.lines() == ["4", "5"]
    screen.resize(3, 4)
    assert screen.lines() == ["4", "5", "", ""]


@pytest.mark.parametrize(
    "text", ["\x1b[31mred", "日本", "\x1b]2;title\x07x", "\x9b31mx", "\udcff\udce6x"]
)
async def test_a_screen_in_the_midst_of_something_is_followed_by_all_of_it(text: str) -> None:
    data = b"a" + text.encode(errors="surrogateescape")
    for at in range(len(data)):
        screen = Screen(COLUMNS, ROWS)
        screen.write(data[: at + 1])
        look = await screen.look()
        late = shown(look.drawing)
        late.feed(data[look.offset :])

        assert state(late) == state(shown(data))


async def test_of_a_flood_the_end_is_shown_and_its_modes_are_kept() -> None:
    screen = Screen(80, 24)
    screen.write(b"\x1b[?1049h\x1b[?2004h\x1b]2;top\x07")
    for number in range(60_000):
        screen.write(b"line %d\r\n" % number)
    held = sum(len(part) for part in screen._waiting if isinstance(part, bytearray))
    assert KEPT_BYTES / 2 < held <= MOST_WAITING_BYTES
    look = await screen.look()

    assert look.lines[-2] == "line 59999"
    assert b"\x1b[?1049h" in look.drawing
    assert b"\x1b[?2004h" in look.drawing
    assert b"\x1b]2;top\x1b\\" in look.drawing
    assert look.offset == screen._offset


async def test_of_what_comes_slowly_nothing_is_left_out() -> None:
    screen = Screen(20, 3)
    screen.write(b"\x1b[Hstatic")
    for number in range(3):
        screen.write(b"\x1b[2;1H%d" % number + b"\x1b[2;1H" * 30_000)
        await screen.catch_up()

    assert (await screen.look()).lines == ("static", "2", "")


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1000, 500)])
def test_any_size_is_taken(size: tuple[int, int]) -> None:
    assert shown("日a\r\n\tb", *size).columns == size[0]


@pytest.mark.parametrize("sequence", ["\x1bc", "\x1b#8", "\x1b[999L", "x\x1b[9999b"])
async def test_few_bytes_do_not_keep_the_runner_busy(
    sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks for the work of a whole screen: 64 KiB of them would be minutes of it."""
    monkeypatch.setattr(screen, "CPU_SECONDS", 0.1)
    busy = Screen(1_000, 500)
    spent = time.process_time()
    busy.write(sequence.encode() * (KEPT_BYTES // len(sequence)))
    await busy.look()
    assert time.process_time() - spent < 30  # it was half an hour


async def test_many_who_look_do_not_keep_the_runner_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a hundred viewers that fell behind would have a screen drawn for it alone."""
    drawn = 0

    def slow(emulator: Emulator) -> bytes:
        nonlocal drawn
        drawn += 1
        time.sleep(0.05)
        return snapshot(emulator)

    monkeypatch.setattr(screen, "snapshot", slow)
    watched = Screen(COLUMNS, ROWS)
    watched.write(b"first")
    looks = await asyncio.gather(*(watched.look() for _ in range(100)))
    assert drawn == 1
    watched.write(b" second")
    began = time.monotonic()
    (later,) = await asyncio.gather(watched.look())
    assert time.monotonic() - began > 0.1

    assert {look.lines[0] for look in looks} == {"first"}
    assert (later.lines[0], later.offset) == ("first second", 12)


async def test_after_work_that_was_too_much_a_screen_is_made_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screen, "CPU_SECONDS", 0.05)
    busy = Screen(80, 24)
    busy.write(b"\x1bc" * KEPT_BYTES)
    await busy.look()
    await asyncio.sleep(0.2)
    busy.write(b"\x1b[H\x1b[2Jhere again")
    assert (await busy.look()).lines[0] == "here again"


@pytest.mark.parametrize("final", ["I", "Z"])
def test_tabs_are_no_more_work_than_there_are_stops(final: str) -> None:
    wide = Emulator(1_000, 2)
    spent = time.process_time()
    wide.feed(f"\x1b[9999{final}".encode() * 1_000)
    assert time.process_time() - spent < 30  # it was an hour
