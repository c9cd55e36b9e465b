"""The worker: one loop a lane, each waiting exactly until its next job is due."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.queue import backoff, jobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gatekeeper.kernel.random import Random
    from gatekeeper.kernel.secret import Secret
    from gatekeeper.platform.postgres.pool import Pool
    from gatekeeper.platform.queue.jobs import ClaimedJob

log = structlog.get_logger("gatekeeper.queue")

LOOK_AGAIN_SECONDS: Final = 5.0
"""The longest a lane trusts silence: notifications can be lost, jobs cannot."""
RECLAIM_SECONDS: Final = 5.0
HEAL_SECONDS: Final = 0.5
STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Done:
    """The handler ended the job itself, in the transaction of its effect."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The job failed and is run again after a pause."""

    code: str
    message: str


Outcome = Done | Retry


class Worker:
    """Runs due jobs, at most so many of a lane at a time."""

    def __init__(
        self,
        *,
        pool: Pool,
        dsn: Secret,
        lanes: Mapping[str, int],
        handlers: Mapping[str, Callable[[ClaimedJob], Awaitable[Outcome]]],
        random: Random,
        finished: Callable[[ClaimedJob, Outcome], None] = lambda _job, _outcome: None,
    ) -> None:
        self._pool = pool
        self._lanes = lanes
        self._handlers = handlers
        self._random = random
        self._finished = finished
        self._wake: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._listener = Listener(dsn, jobs.CHANNEL, self._heard, name="gk-worker")
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled; then let what is running finish, for a while."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listener.run(), name="queue: listen")
                group.create_task(self._reclaim(), name="queue: reclaim")
                for lane, most in self._lanes.items():
                    group.create_task(self._serve(lane, most), name=f"queue: lane {lane}")
        finally:
            await self._finish()

    def _heard(self, lane: str | None) -> None:
        for name in self._lanes if lane is None else (lane,):
            self._wake[name].set()

    async def _serve(self, lane: str, most: int) -> None:
        free = asyncio.Semaphore(most)
        while True:
            try:
                await self._take(lane, free)
            except GatekeeperError as error:
                log.warning("the queue does not answer", lane=lane, code=error.code)
                await asyncio.sleep(HEAL_SECONDS)

    async def _take(self, lane: str, free: asyncio.Semaphore) -> None:
        """Start what is due, then wait for the next due time, a notification, or a free place."""
        self._wake[lane].clear()
        places = await _places(free)
        taken = 0
        try:
            async with self._pool.connection() as connection:
                claimed = await jobs.claim(connection, lane, places)
                taken = len(claimed)
                wait = await jobs.next_due(connection, lane) if taken < places else 0.0
        finally:
            for _ in range(places - taken):
                free.release()
        for job in claimed:
            task = asyncio.create_task(self._run(job, free), name=f"job {job.id}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        if wait is None or wait > 0:
            await self._sleep(lane, LOOK_AGAIN_SECONDS if wait is None else wait)

    async def _sleep(self, lane: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(seconds, LOOK_AGAIN_SECONDS)):
                await self._wake[lane].wait()
        except TimeoutError:
            return

    async def _run(self, job: ClaimedJob, free: asyncio.Semaphore) -> None:
        try:
            outcome = await self._outcome(job)
            if isinstance(outcome, Retry):
                await self._give_back(job, outcome)
            self._finished(job, outcome)
        except GatekeeperError as error:
            # The store is away: the lease ends by itself and the job is taken again.
            log.warning("job left to its lease", job=job.id, code=error.code)
        finally:
            free.release()

    async def _outcome(self, job: ClaimedJob) -> Outcome:
        try:
            return await self._handlers[job.kind](job)
        except GatekeeperError as error:
            return Retry(error.code, error.detail)
        except Exception as error:
            log.exception("job failed", job=job.id)
            return Retry("INTERNAL_ERROR", f"unforeseen: {type(error).__name__}")

    async def _give_back(self, job: ClaimedJob, outcome: Retry) -> None:
        chance = int.from_bytes(self._random.bytes(2)) / 0xFFFF
        async with self._pool.connection() as connection, connection.transaction():
            await jobs.retry(
                connection, job, backoff.pause(job.attempts, chance), outcome.code, outcome.message
            )

    async def _reclaim(self) -> None:
        while True:
            try:
                async with self._pool.connection() as connection:
                    if await jobs.reclaim(connection):
                        self._heard(None)
            except GatekeeperError as error:
                log.warning("the queue does not answer", code=error.code)
            await asyncio.sleep(RECLAIM_SECONDS)

    async def _finish(self) -> None:
        if self._running:
            _done, stuck = await asyncio.wait(self._running, timeout=STOP_SECONDS)
            for task in stuck:
                log.warning("job cut off", task=task.get_name())
                task.cancel()


async def _places(free: asyncio.Semaphore) -> int:
    """Take every free place, waiting for the first."""
    await free.acquire()
    places = 1
    while not free.locked():
        await free.acquire()
        places += 1
    return places
