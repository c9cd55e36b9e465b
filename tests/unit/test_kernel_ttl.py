from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.ttl import format_ttl, parse_ttl


@given(st.integers(min_value=1, max_value=365 * 86_400))
def test_what_is_written_can_be_read(seconds: int) -> None:
    ttl = timedelta(seconds=seconds)

    assert parse_ttl(format_ttl(ttl)) == ttl


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("4h", 14_400), ("1h30m", 5_400), ("1d", 86_400)],
)
def test_reads_what_people_write(text: str, seconds: int) -> None:
    assert parse_ttl(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15",
        "m",
        "0s",
        "0h0m",
        "-5m",
        "1.5h",
        "15 m",
        "15M",
        "5m1h",
        "366d",
        "9" * 31 + "s",
        "9" * 40 + "s",
        "١٥m",
        "15m\n",
    ],
)
def test_refuses_everything_else_with_words(text: str) -> None:
    with pytest.raises(InputError, match="^VALIDATION_ERROR: ttl: expected"):
        parse_ttl(text)


@given(st.text(max_size=64))
def test_never_raises_anything_else(text: str) -> None:
    with suppress(InputError):
        assert parse_ttl(text) > timedelta()


def test_nothing_left_is_written_as_zero() -> None:
    assert format_ttl(timedelta(seconds=-3)) == "0s"
