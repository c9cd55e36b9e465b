"""The state of one decision while it is made: alive for one request, owned by one generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatekeeper.forwardauth.model import NOTHING, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.agents.memory import Memory
    from gatekeeper.forwardauth.model import Credential, OriginalRequest, Scope


@dataclass(slots=True)
class Evaluation:
    """What agents hand on to each other. `now` is in seconds of Unix time."""

    endpoint: str
    request: OriginalRequest
    scope: Scope
    memory: Memory
    now: float
    trace: list[Step] | None
    """Filled for `/explain`; None when nobody asks."""
    forwarded: Mapping[str, str]
    """X-Forwarded-* for backends."""
    credentials: tuple[Credential, ...] = ()
    recognised: bool = False
    """Whether a rule knew a credential of the request."""

    def note(
        self, agent: str, subject: str, result: str, detail: Mapping[str, Any] = NOTHING
    ) -> None:
        """Remember what an agent did, when somebody asks for it."""
        if self.trace is not None:
            self.trace.append(Step(agent, subject, result, detail))
