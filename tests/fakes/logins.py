"""Database logins of terminals in memory, behind the `Logins` port."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from gatekeeper.kernel import ids, policy
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.terminals.ports import BoundLogin

if TYPE_CHECKING:
    from gatekeeper.kernel.errors import GatekeeperError
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import SessionId, TerminalId
    from gatekeeper.kernel.policy import Decision
    from gatekeeper.terminals.model import Terminal


@dataclass
class FakeLogins:
    """Has one target, `pg`, with one role that is allowed, `app_read`."""

    live: dict[TerminalId, SessionId] = field(default_factory=dict)
    ended: list[SessionId] = field(default_factory=list)
    verifiers: list[str] = field(default_factory=list)
    fail_after: list[GatekeeperError] = field(default_factory=list)
    """Raised after a login was made: nobody hears of it."""

    def decide(
        self, principal: Principal, target: str, role: str, ttl: timedelta, reason: str
    ) -> Decision | Refusal:
        if target != "pg":
            return Refusal(code=ErrorCode.NOT_FOUND, detail=f"there is no target {target!r}")
        if role != "app_read":
            return policy.Denied(reasons=("no grant covers it",))
        return policy.Allowed(grant="all", ttl=ttl, max_ttl=timedelta(hours=1))

    async def issue(self, terminal: Terminal, verifier: str) -> BoundLogin | Refusal:
        if terminal.id not in self.live:
            self.verifiers.append(verifier)
            self.live[terminal.id] = ids.SessionId("ses_" + terminal.instance)
        if self.fail_after:
            raise self.fail_after.pop(0)
        session = self.live[terminal.id]
        return BoundLogin(
            session=session, host="127.0.0.1", port=5432, database="shop", sslmode="disable",
            username=ids.role_name(session),
        )  # fmt: skip

    async def find(self, terminal: Terminal) -> SessionId | None:
        return self.live.get(terminal.id)

    async def end(self, session: SessionId, correlation_id: str) -> None:
        if session in self.ended:
            return
        self.ended.append(session)
