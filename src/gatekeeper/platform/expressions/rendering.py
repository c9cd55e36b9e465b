"""What a template does when it is rendered: closures over plain values, bounded in steps and text.

Each is made once, by the compiler, and takes one rendering (`Run`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gatekeeper.platform.expressions.errors import ExpressionError, MissingError
from gatekeeper.platform.expressions.values import MAX_TEXT_CHARS, TooLongError, item

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatekeeper.platform.expressions.vocabulary import Read

MAX_ITERATIONS: Final = 10_000
"""Of all loops of one rendering together."""
MAX_INTEGER: Final = 2**63 - 1


class Run:
    """One rendering: the values of the scope, the variables of loops, the steps left."""

    __slots__ = ("left", "loops", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.loops: dict[str, Any] = {}
        self.left = MAX_ITERATIONS


if TYPE_CHECKING:
    Value = Callable[[Run], Any]
    Text = Callable[[Run], str]


def whole(piece: Text) -> Text:
    """Bound the text of one piece."""

    def text(run: Run) -> str:
        said = piece(run)
        if len(said) > MAX_TEXT_CHARS:
            raise TooLongError
        return said

    return text


def joined(pieces: tuple[Text, ...]) -> Text:
    """Write one piece behind the other, and stop at the bound."""

    def text(run: Run) -> str:
        parts = []
        size = 0
        for piece in pieces:
            part = piece(run)
            size += len(part)
            if size > MAX_TEXT_CHARS:
                raise TooLongError
            parts.append(part)
        return "".join(parts)

    return text


def loop(name: str, items: Value, test: Value | None, body: Text, otherwise: Text) -> Text:
    """Write the body for each item; `otherwise` when there is none."""

    def looped(run: Run) -> str:
        found = items(run)
        if not isinstance(found, list | dict):
            raise TypeError
        outer, parts = run.loops, []
        size, last = 0, len(found) - 1
        for index, one in enumerate(found):
            run.left -= 1
            if run.left < 0:
                msg = f"its loops take more than {MAX_ITERATIONS} steps"
                raise ExpressionError(msg)
            place = {
                "index": index + 1,
                "index0": index,
                "first": index == 0,
                "last": index == last,
                "length": last + 1,
            }
            run.loops = {**outer, name: one, "loop": place}
            if test is None or test(run):
                parts.append(body(run))
                size += len(parts[-1])
                if size > MAX_TEXT_CHARS:
                    raise TooLongError
        run.loops = outer
        return "".join(parts) if parts else otherwise(run)

    return looped


def read_path(path: Read) -> Value:
    """Read what stands in the scope under a name and literal keys."""
    name, *keys = path
    if not keys:
        return lambda run: _named(run, name)
    if len(keys) == 1:
        key = keys[0]
        return lambda run: item(_named(run, name), key)

    def read(run: Run) -> Any:
        value = _named(run, name)
        for key in keys:
            value = item(value, key)
        return value

    return read


def _named(run: Run, name: str) -> Any:
    try:
        return run.values[name]
    except KeyError:
        msg = f"{name} has no value here"
        raise MissingError(msg) from None


def constant(value: Any) -> Callable[[Run], Any]:
    return lambda _run: value


def absent(_run: Run) -> Any:
    """Have no value: what is chosen stands nowhere."""
    msg = "an if without else has no value"
    raise MissingError(msg)


def within(value: Any) -> Any:
    """Let a value through, if it is no text beyond the bound."""
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        raise TooLongError
    return value


def number(value: Any) -> int | float:
    """Let numbers of 64 bits through: text times a number, or a number of a mile, is refused."""
    if type(value) is float or (type(value) is int and -MAX_INTEGER <= value <= MAX_INTEGER):
        return value
    raise TypeError
