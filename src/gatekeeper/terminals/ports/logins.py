"""Database logins for terminals, of the database plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import timedelta

    from gatekeeper.kernel.errors import Refusal
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.policy import Decision
    from gatekeeper.terminals.model import Terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundLogin:
    """A database login for a terminal: everything but the password, which its runner made."""

    session: SessionId
    host: str
    port: int
    database: str
    sslmode: str
    username: str


class Logins(Protocol):
    """Database logins, as terminals have them: the database plane behind a few words."""

    def decide(
        self, principal: Principal, target: str, role: str, ttl: timedelta, reason: str
    ) -> Decision | Refusal: ...

    async def issue(self, terminal: Terminal, verifier: str) -> BoundLogin | Refusal:
        """Ask for a login for a terminal's requester, and wait until it can be used.

        Repeated for the same terminal, it returns the same login.
        """
        ...

    async def find(self, terminal: Terminal) -> SessionId | None:
        """Return the login that was asked for a terminal, also when nobody heard the answer."""
        ...

    async def end(self, session: SessionId, correlation_id: str) -> None:
        """End a login. One that has ended is left as it is."""
        ...
