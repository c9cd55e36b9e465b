"""The page about sandboxes names tests; each of them is there, and each attempt is on the page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/sandbox.md").read_text()
TESTS = [
    (ROOT / f"tests/integration/test_sandbox_{name}.py").read_text() for name in ("escape", "life")
]
_DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
NOT_ATTEMPTS = {"test_a_socket_among_the_doors_can_be_used"}


def test_every_test_that_the_page_names_is_there() -> None:
    defined = {name for text in TESTS for name in _DEFINED.findall(text)}
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named <= defined


def test_every_attempt_stands_on_the_page() -> None:
    assert set(_DEFINED.findall(TESTS[0])) - NOT_ATTEMPTS == {
        name for name in _DEFINED.findall(TESTS[0]) if f"`{name}`" in PAGE
    }
