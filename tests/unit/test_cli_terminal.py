"""What others wrote never speaks to the terminal of whoever reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatekeeper.entrypoints.cli.caller import Exit, fail, note
from gatekeeper.entrypoints.cli.tables import plain, table

if TYPE_CHECKING:
    from collections.abc import Callable

ESCAPE = "\x1b]0;title\x07\x1b[2J"
"""Names the window, and wipes it."""
C1 = "\x9b2J"
"""The same in one byte, which some terminals take as well."""
BACKWARDS = "\u202etxt"
"""Shows what follows from right to left."""
SPEAKING = set("\x1b\x07\x9b\u202e\r")


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(note, id="a note"),
        pytest.param(lambda text: table(("WHAT",), [(text,)]), id="a table"),
        pytest.param(lambda text: fail(text, Exit.ERROR), id="an error"),
    ],
)
def test_what_is_shown_holds_no_escapes(
    show: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        show(f"before {ESCAPE}{C1}{BACKWARDS}\r after")
    except SystemExit as ending:
        assert ending.code == Exit.ERROR  # noqa: PT017  # of one of them

    shown = "".join(capsys.readouterr())
    assert "before" in shown
    assert "after" in shown
    assert not SPEAKING & set(shown)


def test_one_who_writes_a_line_feed_forges_no_row() -> None:
    assert plain("a\nses_x  ready") == "a?ses_x  ready"
    assert plain("one\ntwo", lines=True) == "one\ntwo"
    assert plain("Zoë 日本 ✓") == "Zoë 日本 ✓"
