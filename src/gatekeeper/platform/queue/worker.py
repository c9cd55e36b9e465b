"""The worker: one loop for each lane, waiting exactly until its next job is due.

Each lane has its own connection and its own places, so a full lane costs another one
nothing. A keeper renews the leases of what runs here, gives back what dead workers held,
and deletes what is long done.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import chain, groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import psycopg
import structlog

from gatekeeper.kernel.backoff import LEAST_SECONDS, Backoff
from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.queue import jobs
from gatekeeper.platform.queue.attempts import HEAL, Attempts, where
from gatekeeper.platform.tasks import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from gatekeeper.kernel.random import Random
    from gatekeeper.kernel.secret import Secret
    from gatekeeper.platform.postgres.pool import Pool
    from gatekeeper.platform.queue.model import ClaimedJob, DeadJob, Handler, Outcome

    Batch = Sequence[ClaimedJob]

log = structlog.get_logger("gatekeeper.queue")

LEASE_SECONDS: Final = 30.0
"""A worker that died is noticed after this long at most."""
RENEWALS_PER_LEASE: Final = 3
"""So a lease outlives two renewals that failed."""
STOP_SECONDS: Final = 5.0
"""How long a worker that stops lets its jobs run on."""
TARGET_SHARE: Final = 0.75
"""What one target may have of a lane's places, so that one that hangs leaves room."""
DONE_KEPT: Final = timedelta(days=7)
PURGE_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 5
_LOCKED: Final = Backoff(first=0.05, most=0.5)
"""Between looks at jobs that are due, and locked by a transaction that may yet move them."""
_SETTLE_SECONDS: Final = 1.0
"""What cancelled tasks get to clear up."""

# The plans of these few statements are known: an index each. A planner that has not met
# the table yet (or met it empty) would rather read all of it, and keep that plan.
_PLANS: Final = """
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan; SET jit = off
"""


class Worker:
    """Runs due jobs, at most so many of each lane at a time.

    `handlers` has one for each kind. It gets at most `batch` jobs of one target at once,
    and says of each how it ended. In a lane that `batches` names no target has more batches
    than that under way: what becomes due meanwhile goes together in the next, so that load
    makes the batches larger instead of more. A handler may run again after a crash; a job
    ends together with its effect when it calls `complete` in its own transaction.
    `finished` hears of every outcome, `on_dead` of every job that was given up.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        dsn: Secret,
        lanes: Mapping[str, int],
        handlers: Mapping[str, Handler],
        random: Random,
        batch: int = 1,
        batches: Mapping[str, int] = MappingProxyType({}),
        finished: Callable[[ClaimedJob, Outcome], None] = lambda _job, _outcome: None,
        on_dead: Callable[[DeadJob], None] = lambda _job: None,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        lease_seconds: float = LEASE_SECONDS,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        if not lanes:
            msg = "a worker serves at least one lane"
            raise ValueError(msg)
        self._pool = pool
        self._dsn = dsn
        self._lanes = MappingProxyType(dict(lanes))
        self._attempts = Attempts(
            pool=pool, handlers=handlers, backoff=backoff, random=random, given_up=self._give_up
        )
        self._random = random
        self._batch = batch
        self._batches = batches
        self._finished = finished
        self._on_dead = on_dead
        self._lease = lease_seconds
        self._stop_seconds = stop_seconds
        self._wake = {lane: asyncio.Event() for lane in lanes}
        self._running: dict[asyncio.Task[None], Batch] = {}
        self._stopping = False

    async def run(self) -> None:
        """Work until cancelled; then take nothing more, and let what runs finish for a while.

        Returns or raises only for a bug; whoever started it should notice.
        """
        self._stopping = False
        listener = Listener(self._dsn, jobs.CHANNEL, self._heard, name="gatekeeper-queue-listen")
        lanes = {
            asyncio.create_task(self._serve(lane, places), name=f"queue: lane {lane}")
            for lane, places in self._lanes.items()
        }
        others = {
            asyncio.create_task(listener.run(), name="queue: listen"),
            asyncio.create_task(self._keep(), name="queue: keeper"),
        }
        try:
            ended, _ = await asyncio.wait(lanes | others, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop(lanes, others)
        for task in ended:
            task.result()

    # -- lanes -------------------------------------------------------------------------

    async def _serve(self, lane: str, places: int) -> None:
        """Serve one lane, over a new connection whenever the last one broke."""
        failures = 0
        while not self._stopping:
            try:
                async with self._connected(lane) as connection:
                    failures = 0
                    await self._take_turns(connection, lane, places)
            except psycopg.Error as error:
                failures += 1
                log.warning("the queue does not answer", lane=lane, error=type(error).__name__)
                await asyncio.sleep(HEAL.pause(failures, self._random))

    async def _take_turns(
        self, connection: psycopg.AsyncConnection, lane: str, places: int
    ) -> None:
        """Start what is due; sleep until the next is, a place is free, or somebody calls."""
        locked = 0
        while not self._stopping:
            self._wake[lane].clear()
            free = places - sum(job.lane == lane for job in self._held())
            if free == 0:
                await self._wake[lane].wait()
                continue
            started = await self._start_due(connection, lane, places, free)
            if started == free:
                continue
            wait = await self._until_next(connection, lane, places, free - started)
            # Once is a job that became due just now, or that another worker was faster at.
            locked = locked + 1 if wait == 0 and not started else 0
            if locked > 1:
                wait = _LOCKED.pause(locked - 1, self._random)
            await within(self._wake[lane], wait)

    async def _start_due(
        self, connection: psycopg.AsyncConnection, lane: str, places: int, free: int
    ) -> int:
        claimed = await jobs.claim(
            connection,
            lane,
            free=free,
            share=_share(places),
            busy=self._busy(lane),
            lease=self._lease,
        )
        for batch in _batches(claimed, self._batch):
            task = asyncio.create_task(self._run(batch), name=f"job {batch[0].id}")
            self._running[task] = batch
            task.add_done_callback(self._ended)
        return len(claimed)

    async def _until_next(
        self, connection: psycopg.AsyncConnection, lane: str, places: int, free: int
    ) -> float:
        due = await jobs.next_due(
            connection, lane, free=free, share=_share(places), busy=self._busy(lane)
        )
        return jobs.LOOK_AGAIN_SECONDS if due is None else min(max(due, 0), jobs.LOOK_AGAIN_SECONDS)

    def _busy(self, lane: str) -> Mapping[str, int]:
        """Count what runs here, by target; one with enough batches under way is full."""
        here = [batch for batch in self._running.values() if batch[0].lane == lane]
        jobs = Counter(job.target for batch in here for job in batch if job.target)
        batches = Counter(batch[0].target for batch in here if batch[0].target)
        most = self._batches.get(lane, self._lanes[lane])
        full = [target for target, count in batches.items() if count >= most]
        return jobs | Counter(dict.fromkeys(full, self._lanes[lane]))

    def _held(self) -> Iterator[ClaimedJob]:
        return chain.from_iterable(self._running.values())

    def _heard(self, lane: str | None) -> None:
        for name in self._lanes if lane is None else (lane,):
            if name in self._wake:
                self._wake[name].set()

    @asynccontextmanager
    async def _connected(self, lane: str) -> AsyncIterator[psycopg.AsyncConnection]:
        async with await psycopg.AsyncConnection.connect(
            self._dsn.reveal(),
            autocommit=True,
            application_name=f"gatekeeper-queue-{lane}",
            connect_timeout=CONNECT_SECONDS,
        ) as connection:
            await connection.execute(_PLANS)
            yield connection

    # -- jobs --------------------------------------------------------------------------

    async def _run(self, batch: Batch) -> None:
        """Run one attempt, and say how each job ended until the database has heard it."""
        for job, outcome in await self._attempts.outcomes(batch):
            self._finished(job, await self._attempts.settle(job, outcome))

    def _give_up(self, job: DeadJob) -> None:
        log.error("job given up", job=job.id, kind=job.kind, code=job.error_code)
        self._on_dead(job)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Free the place, and look whether somebody waits for it."""
        batch = self._running.pop(task)
        self._wake[batch[0].lane].set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "the worker failed", job=batch[0].id, error=type(error).__name__, at=where(error)
            )

    # -- keeping -----------------------------------------------------------------------

    async def _keep(self) -> None:
        loop, failures, purge_at = asyncio.get_running_loop(), 0, 0.0
        while True:
            try:
                wait = await self._keep_leases()
                if loop.time() >= purge_at:
                    await self._purge()
                    purge_at = loop.time() + PURGE_SECONDS
                failures = 0
            except (GatekeeperError, psycopg.Error) as error:
                failures += 1
                log.warning("leases are not renewed", error=type(error).__name__)
                wait = HEAL.pause(failures, self._random)
            await asyncio.sleep(wait)

    async def _keep_leases(self) -> float:
        """Renew ours first, so that after an outage they are not taken for a dead worker's.

        Returns when to come back, in seconds: for the next renewal, or the next lease to end.
        """
        async with self._pool.connection() as connection:
            if self._running:
                tokens = [job.lease_token for job in self._held()]
                await jobs.renew(connection, tokens, self._lease)
            _lanes, dead = await jobs.reclaim(connection)
            expiry = await jobs.next_expiry(connection)
        for job in dead:
            self._give_up(job)
        renewal = self._lease / RENEWALS_PER_LEASE
        return renewal if expiry is None else min(renewal, max(expiry, LEAST_SECONDS))

    async def _purge(self) -> None:
        while True:
            async with self._pool.connection() as connection:
                if await jobs.purge(connection, DONE_KEPT) < jobs.BATCH_ROWS:
                    return

    # -- stopping ----------------------------------------------------------------------

    async def _stop(
        self, lanes: Iterable[asyncio.Task[None]], others: Iterable[asyncio.Task[None]]
    ) -> None:
        """Claim nothing more; let jobs finish; cut off the rest and give them back."""
        self._stopping = True
        self._heard(None)
        # Not cancelled: the answer of a claim under way says which jobs are ours.
        await asyncio.wait(lanes, timeout=_SETTLE_SECONDS)
        if self._running:
            await asyncio.wait(self._running, timeout=self._stop_seconds)
        cut, left = list(self._running), list(self._held())
        for task in (*lanes, *others, *cut):
            task.cancel()
        await asyncio.wait((*lanes, *others, *cut), timeout=_SETTLE_SECONDS)
        if left:
            await self._release(left)

    async def _release(self, left: Batch) -> None:
        log.warning("jobs cut off", jobs=sorted(job.id for job in left))
        try:
            async with self._pool.connection() as connection:
                await jobs.release(connection, [job.lease_token for job in left])
        except (GatekeeperError, psycopg.Error) as error:
            log.warning("jobs left to their leases", error=type(error).__name__)


def _share(places: int) -> int:
    """Return how many places of a lane one target may have."""
    return max(1, int(places * TARGET_SHARE))


def _batches(claimed: Batch, most: int) -> Iterator[Batch]:
    """Cut what was claimed into batches of one kind and target."""
    ordered = sorted(claimed, key=_kind_and_target)
    for _, group in groupby(ordered, key=_kind_and_target):
        alike = list(group)
        yield from (alike[start : start + most] for start in range(0, len(alike), most))


def _kind_and_target(job: ClaimedJob) -> tuple[str, str]:
    return job.kind, job.target or ""
