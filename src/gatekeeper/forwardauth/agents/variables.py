"""Agent 4, endpoint variables: `vars.global`, evaluated once for each request, in their order.

Each may read those before it. One without a value is an error outcome: what depends on it
could not be judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.forwardauth.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatekeeper.forwardauth.model import Scope
    from gatekeeper.forwardauth.ports import Expression


def assign(name: str, variables: Iterable[tuple[str, Expression]], scope: Scope) -> None:
    """Evaluate variables into the scope's `name`. Raises `EvaluationError` that says which."""
    found: dict[str, object] = {}
    scope.set(name, found)
    for variable, expression in variables:
        try:
            value = expression(scope)
        except EvaluationError as error:
            msg = f"{name}.{variable}: {error}"
            raise EvaluationError(msg) from error
        found[variable] = value
        scope.prepared = None
