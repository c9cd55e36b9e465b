"""Our queue beside procrastinate, on one embedded PostgreSQL: latency, throughput, due times.

    python benchmarks/queue/compare.py [JOBS]

procrastinate is no dependency of ours: what is not importable is left out. To compare,
make an environment of its own and run this file with its Python:

    uv venv /tmp/compare && uv pip install --python /tmp/compare -e . procrastinate
    /tmp/compare/bin/python benchmarks/queue/compare.py

One worker process, ten jobs at a time, no-op jobs, PostgreSQL's `fsync` on. The load and
the worker share the process and its event loop, for both. Figures in docs/adr/0005-queue.md.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gatekeeper.kernel.secret import Secret
from gatekeeper.platform import queue
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

CONCURRENCY = 10
SINGLE_JOBS = 300
DUE_JOBS = 20
DRAIN_JOBS = 5_000
GIVE_UP_SECONDS = 120.0


@dataclass
class Starts:
    """When each job started, on the monotonic clock."""

    at: dict[int, float]
    wanted: int = 0
    reached: asyncio.Event | None = None

    def started(self, number: int) -> None:
        self.at[number] = time.perf_counter()
        if self.reached is not None and len(self.at) >= self.wanted:
            self.reached.set()

    async def wait_for(self, count: int) -> None:
        self.wanted, self.reached = count, asyncio.Event()
        if len(self.at) < count:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self.reached.wait()


class Ours:
    def __init__(self, dsn: str, started: Callable[[int], None]) -> None:
        self._dsn, self._started = Secret(dsn), started
        self._pool = Pool(self._dsn, name="benchmark", max_size=12)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ours]:
        await migrate(self._dsn)
        await self._pool.open()
        yield self
        await self._pool.close()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async def handle(batch: Sequence[queue.ClaimedJob]) -> Sequence[queue.Outcome]:
            for job in batch:
                self._started(job.payload["number"])
            return [queue.Done() for _ in batch]

        worker = queue.Worker(
            pool=self._pool,
            dsn=self._dsn,
            lanes={"end": CONCURRENCY},
            handlers={"end": handle},
            random=SystemRandom(),
        )
        async with running(worker.run()):
            yield

    async def enqueue(self, number: int, after: float = 0) -> None:
        async with self._pool.connection() as connection:
            await queue.enqueue(connection, self._job(number, after))

    async def enqueue_many(self, numbers: range) -> None:
        async with self._pool.connection() as connection, connection.transaction():
            for number in numbers:
                await queue.enqueue(connection, self._job(number, 0))

    def _job(self, number: int, after: float) -> queue.NewJob:
        return queue.NewJob(
            id=f"job-{number}",
            lane="end",
            kind="end",
            payload={"number": number},
            target="pg-local",
            due_at=in_seconds(after) if after else None,
        )


class Procrastinate:
    def __init__(self, dsn: str, started: Callable[[int], None]) -> None:
        import procrastinate  # noqa: PLC0415  # may not be there

        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=dsn, max_size=12)
        )

        @self._app.task(name="end", queue="end")
        async def end(number: int) -> None:
            started(number)

        self._task = end

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Procrastinate]:
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()
            yield self

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        worker = self._app.run_worker_async(
            concurrency=CONCURRENCY, install_signal_handlers=False, wait=True
        )
        async with running(worker):
            yield

    async def enqueue(self, number: int, after: float = 0) -> None:
        task = self._task.configure(schedule_at=in_seconds(after) if after else None)
        await task.defer_async(number=number)

    async def enqueue_many(self, numbers: range) -> None:
        await self._task.batch_defer_async(*({"number": number} for number in numbers))


@asynccontextmanager
async def running(work) -> AsyncIterator[None]:  # noqa: ANN001  # any coroutine
    task = asyncio.create_task(work)
    await asyncio.sleep(0.5)
    yield
    task.cancel()
    await asyncio.wait([task])


def in_seconds(after: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=after)  # noqa: TID251  # one machine, one clock


async def measure(subject, starts: Starts, jobs: int) -> dict[str, str]:  # noqa: ANN001
    async with subject.working():
        lags = await single(subject, starts)
        due = await due_times(subject, starts)
    starts.at.clear()
    began = time.perf_counter()
    await subject.enqueue_many(range(1_000_000, 1_000_000 + jobs))
    enqueued = time.perf_counter() - began
    async with subject.working():
        await starts.wait_for(jobs)
    first, last = min(starts.at.values()), max(starts.at.values())
    return {
        "enqueue → start p50": f"{percentile(lags, 50):.1f} ms",
        "p99": f"{percentile(lags, 99):.1f} ms",
        "late after due time p50": f"{percentile(due, 50):.1f} ms",
        "worst": f"{max(due) * 1000:.1f} ms",
        "backlog": f"{jobs / (last - first):.0f} jobs/s",
        "enqueue in one go": f"{jobs / enqueued:.0f} jobs/s",
    }


async def single(subject, starts: Starts) -> list[float]:  # noqa: ANN001
    """Return how long after the call to enqueue an idle worker started each job."""
    called = {}
    for number in range(SINGLE_JOBS):
        called[number] = time.perf_counter()
        await subject.enqueue(number)
        await starts.wait_for(number + 1)
    return [starts.at[number] - at for number, at in called.items()]


async def due_times(subject, starts: Starts) -> list[float]:  # noqa: ANN001
    """Return how late jobs started that were due 1 to 3 seconds ahead."""
    due = {}
    for number in range(SINGLE_JOBS, SINGLE_JOBS + DUE_JOBS):
        after = 1 + 2 * (number - SINGLE_JOBS) / DUE_JOBS
        due[number] = time.perf_counter() + after
        await subject.enqueue(number, after)
    await starts.wait_for(SINGLE_JOBS + DUE_JOBS)
    return [starts.at[number] - at for number, at in due.items()]


def percentile(seconds: list[float], percent: int) -> float:
    return sorted(seconds)[min(len(seconds) - 1, len(seconds) * percent // 100)] * 1000


async def run(kind, dsn: str, jobs: int) -> dict[str, str]:  # noqa: ANN001
    starts = Starts({})
    async with kind(dsn, starts.started).open() as subject:
        return await measure(subject, starts, jobs)


async def main(jobs: int) -> None:
    kinds = {"gatekeeper": Ours}
    if importlib.util.find_spec("procrastinate"):
        kinds["procrastinate"] = Procrastinate
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in kinds.items():
            data = Path(folder, name)
            async with EmbeddedServer(data, find_binaries(18)) as server:
                result = await run(kind, server.dsn(), jobs)
            print(f"{name:14}", *(f"{what} {value};" for what, value in result.items()))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAIN_JOBS))
