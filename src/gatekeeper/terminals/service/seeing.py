"""Who may do what with a terminal that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.terminals import errors
from gatekeeper.terminals.model import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.kernel.errors import Refusal
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.terminals.model import Terminal

OF_OWNERS: Final = frozenset({Mode.READ, Mode.WRITE, Mode.MODERATE})
OF_OPERATORS: Final = frozenset({Mode.READ, Mode.MODERATE})
"""At the terminals of others: what an operator does is watched, taken over or ended, in sight."""


class Seeing:
    """Knows whose a terminal is."""

    def __init__(self, is_operator: Callable[[Principal], bool]) -> None:
        self._is_operator = is_operator

    def sees_all(self, principal: Principal) -> bool:
        """Tell whether the caller may see, and end, the terminals of others."""
        return self._is_operator(principal)

    def may_see(self, principal: Principal, terminal: Terminal) -> bool:
        return bool(self._modes(principal, terminal))

    def refuse_mode(self, principal: Principal, terminal: Terminal, mode: Mode) -> Refusal | None:
        if mode in self._modes(principal, terminal):
            return None
        return errors.not_in_this_mode(mode)

    def _modes(self, principal: Principal, terminal: Terminal) -> frozenset[Mode]:
        if terminal.requester == principal.key:
            return OF_OWNERS
        return OF_OPERATORS if self._is_operator(principal) else frozenset()
