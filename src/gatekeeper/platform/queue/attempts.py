"""One attempt at some jobs: their handler is run, and how each ended is stored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import structlog

from gatekeeper.kernel.backoff import Backoff
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.platform.queue import jobs
from gatekeeper.platform.queue.model import Dead, DeadJob, Done, LeaseLostError, Retry, Settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.postgres.pool import Pool
    from gatekeeper.platform.queue.model import ClaimedJob, Handler, Outcome

    Batch = Sequence[ClaimedJob]

log = structlog.get_logger("gatekeeper.queue")

JOB_SECONDS: Final = 120.0
"""The longest an attempt may take; every call it makes has a shorter deadline of its own."""
HEAL: Final = Backoff(first=0.2, most=2.0)
"""Between tries to reach a database that went away."""


class Attempts:
    """Knows the handlers. `given_up` hears of every job that is not tried again."""

    def __init__(
        self,
        *,
        pool: Pool,
        handlers: Mapping[str, Handler],
        backoff: Backoff,
        random: Random,
        given_up: Callable[[DeadJob], None],
    ) -> None:
        self._pool = pool
        self._handlers = handlers
        self._backoff = backoff
        self._random = random
        self._given_up = given_up

    async def outcomes(self, batch: Batch) -> Iterable[tuple[ClaimedJob, Outcome]]:
        """Run the handler of a batch; return how each job ended, of those that are still ours."""
        handler = self._handlers.get(batch[0].kind)
        if handler is None:
            why = f"no handler for kind {batch[0].kind!r}"
            return _all(batch, Retry(ErrorCode.INTERNAL_ERROR, why))
        deadline = asyncio.timeout(JOB_SECONDS)
        try:
            async with deadline:
                return list(zip(batch, await handler(batch), strict=True))
        except Exception as error:  # noqa: BLE001  # a bug in one job must not end the others
            if deadline.expired():
                why = f"not done within {JOB_SECONDS:.0f} s"
                return _all(batch, Retry(ErrorCode.JOB_EXPIRED, why))
            if len(batch) > 1 and not _is_foreseen(error):
                return await self._one_by_one(batch)
            return _failed(batch, error)

    async def _one_by_one(self, batch: Batch) -> Iterable[tuple[ClaimedJob, Outcome]]:
        """Run the jobs of a batch that broke again: one of them is why, not all."""
        return [pair for job in batch for pair in await self.outcomes((job,))]

    async def settle(self, job: ClaimedJob, outcome: Outcome) -> Outcome:
        """Say how a job ended until the database has heard it; a failure may come back `Dead`."""
        failures = 0
        while True:
            try:
                return await self._settle_once(job, outcome)
            except (GatekeeperError, psycopg.Error) as error:
                failures += 1
                log.warning("a job's end is not stored yet", job=job.id, error=type(error).__name__)
                await asyncio.sleep(HEAL.pause(failures, self._random))

    async def _settle_once(self, job: ClaimedJob, outcome: Outcome) -> Outcome:
        """Store how an attempt ended; a failure that was the last one comes back as `Dead`."""
        if isinstance(outcome, Settled):
            return outcome
        async with self._pool.connection() as connection:
            if isinstance(outcome, Done):
                await jobs.complete(connection, [job])
                return outcome
            pause = self._backoff.pause(job.attempts, self._random)
            state = await jobs.fail(connection, job, outcome, pause=pause)
        if state != "dead":
            return outcome
        self._given_up(
            DeadJob(
                id=job.id,
                lane=job.lane,
                kind=job.kind,
                target=job.target,
                attempts=job.attempts,
                error_code=outcome.code,
                error_message=outcome.message,
            )
        )
        return Dead(outcome.code, outcome.message)


def _all(batch: Batch, outcome: Outcome) -> Iterable[tuple[ClaimedJob, Outcome]]:
    return [(job, outcome) for job in batch]


def _is_foreseen(error: Exception) -> bool:
    return isinstance(error, GatekeeperError) and not isinstance(error, LeaseLostError)


def _failed(batch: Batch, error: Exception) -> Iterable[tuple[ClaimedJob, Outcome]]:
    """Return what an attempt that raised comes to; nothing is said of a job we lost."""
    job = batch[0]
    if isinstance(error, LeaseLostError):
        log.warning("what a job did was undone: its lease was lost", job=job.id)
        return ()
    if isinstance(error, GatekeeperError):
        return _all(batch, Retry(error.code, error.detail))
    # Neither text nor traceback: a foreign error may quote the payload.
    log.error("job failed", job=job.id, error=type(error).__name__, at=where(error))
    return _all(batch, Retry(ErrorCode.INTERNAL_ERROR, f"unforeseen: {type(error).__name__}"))


def where(error: BaseException) -> str:
    """Return where an error was raised: a file and a line, nothing of its data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
