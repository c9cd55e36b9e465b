"""Plain values: what they have inside, and how they become text, the same everywhere."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from gatekeeper.platform.expressions.errors import ExpressionError, MissingError

MAX_TEXT_CHARS: Final = 65_536
"""Of what a template says, and of every text made on the way."""


def text_of(value: Any) -> str:
    """Return a value as a template writes it; what has no obvious text is refused."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if value is None:
        msg = "null has no text; give it one by default"
        raise ExpressionError(msg)
    msg = "a map or list has no text; use tojson or join"
    raise ExpressionError(msg)


def item(container: Any, key: Any) -> Any:
    """Return what a map has under a key, or a list or text at an index. Nothing else has parts."""
    if isinstance(container, dict):
        if isinstance(key, str | int | float) and key in container:
            return container[key]
    elif (
        isinstance(container, list | str)
        and type(key) is int
        and -len(container) <= key < len(container)
    ):
        return container[key]
    msg = "a key is not there"
    raise MissingError(msg)


class TooLongError(ExpressionError):
    """Text grows beyond its limit."""

    def __init__(self) -> None:
        super().__init__(f"text grows beyond {MAX_TEXT_CHARS} characters")
