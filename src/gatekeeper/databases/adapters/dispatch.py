"""Between the queue and the job handlers of this plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.databases.adapters.store import END, ISSUE, Claim
from gatekeeper.databases.jobs import TryAgain
from gatekeeper.platform.queue import Retry, Settled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gatekeeper.databases.jobs import JobOutcome, SessionJobs
    from gatekeeper.databases.ports import JobClaim
    from gatekeeper.platform.queue import ClaimedJob, Outcome

    Handler = Callable[[ClaimedJob], Awaitable[Outcome]]


def job_handlers(jobs: SessionJobs) -> Mapping[str, Handler]:
    """Return what the worker calls for each kind of job."""
    return {ISSUE: _handler(jobs.issue), END: _handler(jobs.end)}


def _handler(use_case: Callable[[JobClaim], Awaitable[JobOutcome]]) -> Handler:
    async def handle(job: ClaimedJob) -> Outcome:
        outcome = await use_case(Claim(job))
        if isinstance(outcome, TryAgain):
            return Retry(outcome.error.code, outcome.error.message)
        return Settled()

    return handle
