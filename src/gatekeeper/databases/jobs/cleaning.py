"""The job that has a target's overdue logins ended, whatever the store knows of them.

It comes back for ever, one for each target. All is well when it finds nothing: the job that
ends a session came before. It finds what a restored store, or a lost one, no longer knows.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from gatekeeper.databases.evidence import target_event
from gatekeeper.kernel import ids
from gatekeeper.kernel.audit import SYSTEM, AuditKind
from gatekeeper.kernel.errors import Failure, GatekeeperError
from gatekeeper.kernel.jobs import FINISHED, TryAgain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatekeeper.databases.model import Target
    from gatekeeper.databases.ports import Agents, JobClaim, SessionStore
    from gatekeeper.kernel.jobs import JobOutcome
    from gatekeeper.kernel.random import Random

EVERY: Final = timedelta(seconds=60)


class Cleaning:
    """Looks after targets, one job each."""

    def __init__(
        self, *, store: SessionStore, targets: Mapping[str, Target], agents: Agents, random: Random
    ) -> None:
        self._store = store
        self._targets = targets
        self._agents = agents
        self._random = random

    async def schedule(self) -> None:
        """Make the job of each target, or find that it is there."""
        async with self._store.transaction() as unit:
            for name in self._targets:
                await unit.schedule_clean_up(name)

    async def __call__(self, claims: Sequence[JobClaim]) -> Sequence[JobOutcome]:
        return [await self._look_after(claim) for claim in claims]

    async def _look_after(self, claim: JobClaim) -> JobOutcome:
        target = self._targets.get(claim.target)
        if target is None:
            async with self._store.transaction() as unit:
                await unit.settle([claim])
            return FINISHED
        correlation_id = ids.correlation_id(self._random.bytes(ids.RANDOM_BYTES))
        try:
            receipt = await self._agents.clean_up(target, correlation_id)
        except GatekeeperError as error:
            return TryAgain(Failure.of(error))
        async with self._store.transaction() as unit:
            now = await unit.now()
            if receipt.value:
                await unit.record(
                    target_event(
                        AuditKind.TARGET_CLEANED,
                        target.name,
                        at=now,
                        actor=SYSTEM,
                        correlation_id=correlation_id,
                        cleaned=list(receipt.value),
                        receipt=receipt.signed,
                    )
                )
            await unit.postpone(claim, now + EVERY)
        return FINISHED
