"""What can be wrong with a configuration, and with evaluating it.

GatekeeperError
└── InputError
    └── ConfigurationError    cannot be used; lists every problem, each with its place
EvaluationError               an expression has no value for this request: an error outcome
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

WHOLE_FILE: Final = "-"
"""The key of what is wrong with a file as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a configuration.

    `place` is `file:line` (or the name of an environment variable); `key` the dotted path;
    `near` the nearest known name, when one is close.
    """

    place: str
    key: str
    message: str
    near: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean {self.near!r}?" if self.near else ""
        where = self.place if self.key == WHOLE_FILE else f"{self.place}: {self.key}"
        return f"{where}: {self.message}{hint}"


class ConfigurationError(InputError):
    """A configuration cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"the configuration cannot be used:\n{lines}")


class EvaluationError(Exception):
    """An expression has no value for this request. The text names the expression's source."""
