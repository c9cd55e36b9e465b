"""Pauses double, never pass the ceiling, and are drawn from the whole range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.kernel.backoff import LEAST_SECONDS, Backoff


class Drawn:
    def __init__(self, first: int) -> None:
        self._first = first

    def bytes(self, count: int) -> bytes:
        return bytes([self._first]) * count


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 15.0), (10_000, 15.0)]
)
def test_a_pause_doubles_up_to_the_ceiling(failures: int, expected: float) -> None:
    pause = Backoff(first=1, most=30).pause(failures, Drawn(0x80))
    assert pause == pytest.approx(expected, rel=0.01)


def test_the_smallest_draw_still_pauses() -> None:
    assert Backoff(first=1, most=30).pause(5, Drawn(0)) == LEAST_SECONDS


@given(st.integers(1, 100), st.integers(0, 255))
def test_a_pause_is_never_longer_than_its_ceiling(failures: int, draw: int) -> None:
    pause = Backoff(first=0.2, most=30).pause(failures, Drawn(draw))
    assert LEAST_SECONDS <= pause < min(30, 0.2 * 2.0 ** (failures - 1)) + LEAST_SECONDS
