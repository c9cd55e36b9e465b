"""Between the queue and the job handlers of this plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.platform.queue import outcome_of
from gatekeeper.platform.telemetry import traces
from gatekeeper.terminals.adapters.store import TRACE, Claim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gatekeeper.kernel.jobs import JobOutcome
    from gatekeeper.platform.queue import ClaimedJob, Handler, Outcome


def handler(use_case: Callable[[Claim], Awaitable[JobOutcome]]) -> Handler:
    """Return what the worker calls with jobs of one kind and runner."""

    async def handle(jobs: Sequence[ClaimedJob]) -> Sequence[Outcome]:
        return [await _run(job) for job in jobs]

    async def _run(job: ClaimedJob) -> Outcome:
        with traces.span(
            f"job {job.kind}",
            kind="consumer",
            parents=[job.payload.get(TRACE)],
            runner=job.target or "",
        ):
            return outcome_of(await use_case(Claim(job)))

    return handle
