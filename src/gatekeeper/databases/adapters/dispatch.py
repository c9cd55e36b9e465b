"""Between the queue and the job handlers of this plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.databases.adapters.store import TRACE, Claim
from gatekeeper.platform.queue import outcome_of
from gatekeeper.platform.telemetry import traces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gatekeeper.databases.ports import JobClaim
    from gatekeeper.kernel.jobs import JobOutcome
    from gatekeeper.platform.queue import ClaimedJob, Handler, Outcome


def handler(use_case: Callable[[Sequence[JobClaim]], Awaitable[Sequence[JobOutcome]]]) -> Handler:
    """Return what the worker calls with jobs of one kind and target."""

    async def handle(jobs: Sequence[ClaimedJob]) -> Sequence[Outcome]:
        with traces.span(
            f"job {jobs[0].kind}",
            kind="consumer",
            parents=[job.payload.get(TRACE) for job in jobs],
            target=jobs[0].target or "",
        ):
            outcomes = await use_case([Claim(job) for job in jobs])
        return [outcome_of(outcome) for outcome in outcomes]

    return handle
