"""Agent 1, server & lifecycle: the configuration in force, and whether requests can be judged.

A configuration is replaced as a whole, and only by one that is whole; the last good one stays.
There is no state in which nothing is configured and something is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gatekeeper.forwardauth.model import SkippedDefinition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatekeeper.forwardauth.agents.admission import Admission
    from gatekeeper.forwardauth.agents.chain import Chain
    from gatekeeper.forwardauth.agents.recall import Recall
    from gatekeeper.forwardauth.agents.response import ResponsePlan
    from gatekeeper.forwardauth.model import OriginalRequest
    from gatekeeper.forwardauth.ports import Expression
    from gatekeeper.forwardauth.request.reading import Reading
    from gatekeeper.kernel.secret import Secret


Names = frozenset[str] | None
"""Some names; None: every name, as they are read all together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlan:
    """An endpoint, compiled: what its agents need, and of the request what anything reads."""

    name: str
    reading: Reading
    admission: Admission
    forwards: bool
    """Whether anything hands X-Forwarded-* on."""
    constants: Mapping[str, Any]
    views: tuple[tuple[str, Callable[[OriginalRequest], Any]], ...]
    parameters: Names
    """Query parameters that are read, and so may stand only once."""
    cookies: Names
    """Cookies that expressions read, and so may have only one value."""
    reads_now: bool
    reads_id: bool
    variables: tuple[tuple[str, Expression], ...]
    chain: Chain
    response: ResponsePlan
    recall: Recall | None
    """Where allowing answers are remembered; None: they depend on too much, or on others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One configuration, compiled. `number` counts those this process has taken, from 1."""

    number: int
    digest: str
    """Of everything that counts in it, in hexadecimal."""
    plans: Mapping[str, EndpointPlan]
    quarantined: frozenset[str] = frozenset()
    """Endpoints that are configured and cannot be judged."""
    skipped: tuple[SkippedDefinition, ...] = ()
    secrets: tuple[Secret, ...] = ()
    """All that the configuration holds or names: what is never shown."""

    def without(self, faulty: Mapping[str, str]) -> Generation:
        """Quarantine endpoints; `faulty` says why, by name."""
        left_out = (SkippedDefinition("endpoint", name, why) for name, why in faulty.items())
        return replace(
            self,
            plans={name: plan for name, plan in self.plans.items() if name not in faulty},
            quarantined=self.quarantined | faulty.keys(),
            skipped=(*self.skipped, *left_out),
        )

    def unready(self) -> tuple[str, ...]:
        """Say why requests cannot all be judged; empty when they can."""
        reasons = [f"{one.kind} {one.name}: {one.reason}" for one in self.skipped]
        if not self.plans and not reasons:
            reasons.append("no endpoint is configured")
        return tuple(reasons)
