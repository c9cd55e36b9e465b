"""Conditions in CEL (the Common Expression Language), type-checked when they are loaded.

Regular expressions inside CEL are RE2, whose time is linear in the text; loops over
groups end after 10,000 iterations, and a condition that needs more cannot be evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cel_expr_python import cel

from gatekeeper.kernel.policy import ConditionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_CONDITION_CHARS: Final = 2_000

_VARIABLES: Final = {
    "request.plane": cel.Type.STRING,
    "request.target": cel.Type.STRING,
    "request.role": cel.Type.STRING,
    "request.reason": cel.Type.STRING,
    "request.ttlSeconds": cel.Type.INT,
    "principal.issuer": cel.Type.STRING,
    "principal.subject": cel.Type.STRING,
    "principal.email": cel.Type.STRING,
    "principal.groups": cel.Type.List(cel.Type.STRING),
    "principal.kind": cel.Type.STRING,
    "now": cel.Type.TIMESTAMP,
}
_ENVIRONMENT: Final = cel.NewEnv(variables=_VARIABLES)


@dataclass(frozen=True, slots=True)
class CelCondition:
    """A compiled condition, equal to another by its source."""

    source: str
    _compiled: Any = field(repr=False, compare=False)

    def __call__(self, facts: Mapping[str, Any]) -> bool:
        if _has_nul(facts.values()):
            raise ConditionError(self.source)
        try:
            answer = self._compiled.eval(data=dict(facts))
        except (RuntimeError, ValueError, TypeError) as error:
            # Beyond 10,000 iterations cel-cpp gives up; text that is no UTF-8 does not reach it.
            raise ConditionError(self.source) from error
        if answer.type() != cel.Type.BOOL:
            raise ConditionError(self.source)
        return bool(answer.value())

    def constant(self) -> bool | None:
        """Return what the condition always says; None when it depends on the request."""
        try:
            return self({})
        except ConditionError:
            return None


def compile_condition(source: str) -> CelCondition:
    """Compile a condition. Raises `ValueError` that says what is wrong with it."""
    if len(source) > MAX_CONDITION_CHARS:
        msg = f"a condition may have at most {MAX_CONDITION_CHARS} characters"
        raise ValueError(msg)
    try:
        compiled = _ENVIRONMENT.compile(source)
    except RuntimeError as error:
        raise ValueError(_first_words(str(error))) from error
    if compiled.return_type() != cel.Type.BOOL:
        msg = f"a condition must be true or false, this is {compiled.return_type().name()}"
        raise ValueError(msg)
    return CelCondition(source, compiled)


def _has_nul(values: Iterable[Any]) -> bool:
    """Tell whether a text has a NUL: cel-expr-python 0.1.3 reads a text only up to there."""
    return any(
        "\0" in value if isinstance(value, str) else _has_nul(value)
        for value in values
        if isinstance(value, str | list | tuple)
    )


def _first_words(text: str) -> str:
    """Take the message out of cel-cpp's report: its first line, without the prefix."""
    return text.split("ERROR: <input>:", 1)[-1].splitlines()[0].strip()
