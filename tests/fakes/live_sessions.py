"""The one fake of the `Sessions` port: who holds which sessions is for a test to say.

`tests/contract/test_live_sessions.py` runs the same suite on it and on a real Gatekeeper.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatekeeper.forwardauth.model import Rejected

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import LiveSession


@dataclass
class FakeSessions:
    """Has the sessions of each token; any other token is rejected, and all while `reachable` is not."""

    sessions: dict[str, tuple[LiveSession, ...]] = field(default_factory=dict)
    reachable: bool = True
    asked: list[str] = field(default_factory=list)

    async def live(self, token: str) -> tuple[LiveSession, ...] | Rejected:
        self.asked.append(token)
        await asyncio.sleep(0)
        if not self.reachable:
            return Rejected(503, "Gatekeeper's sessions are not known: it cannot be connected to")
        return self.sessions.get(token, Rejected(401, "Gatekeeper does not take the token"))
