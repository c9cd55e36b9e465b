"""How plain values become text, the same in every template."""

from __future__ import annotations

import datetime
from typing import Any, Final

from gatekeeper.platform.expressions.errors import ExpressionError

MAX_TEXT_CHARS: Final = 65_536
"""Of what a template says, and of every text made on the way."""


def text_of(value: Any) -> str:  # noqa: ANN401  # plain values
    """Return a value as a template writes it; what has no obvious text is refused."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if value is None:
        msg = "null has no text; give it one by default"
        raise ExpressionError(msg)
    msg = "a map or list has no text; use tojson or join"
    raise ExpressionError(msg)


class TooLongError(ExpressionError):
    """Text grows beyond its limit."""

    def __init__(self) -> None:
        super().__init__(f"text grows beyond {MAX_TEXT_CHARS} characters")
