"""The queue on a real PostgreSQL: exact, atomic, fenced, fair, and hard to kill."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest

from gatekeeper.kernel.errors import ErrorCode, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform import queue
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.queue import (
    ClaimedJob,
    Done,
    Handler,
    NewJob,
    Outcome,
    Retry,
    Settled,
    jobs,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

FAR = datetime(2100, 1, 1, tzinfo=UTC)
PATIENCE = 15.0
"""Seconds after which a test gives up; nothing waits for it when all is well."""

TARGET_AWAY = UnavailableError("no target", ErrorCode.TARGET_UNREACHABLE)


class Half:
    """Randomness that always draws one half."""

    def bytes(self, count: int) -> bytes:
        return b"\x80" + bytes(count - 1)


@pytest.fixture
async def pool(store_dsn: str) -> AsyncIterator[Pool]:
    pool = Pool(Secret(store_dsn), name="test", max_size=20)
    await pool.open()
    yield pool
    await pool.close()


def a_job(number: object = 1, **fields: Any) -> NewJob:
    return NewJob(**{"id": f"job-{number}", "lane": "end", "kind": "end", "payload": {}, **fields})


def each(handle: Callable[[ClaimedJob], Awaitable[Outcome]]) -> Handler:
    async def handle_batch(batch: Sequence[ClaimedJob]) -> Sequence[Outcome]:
        return [await handle(job) for job in batch]

    return handle_batch


def a_worker(
    pool: Pool,
    dsn: str,
    handle: Callable[[ClaimedJob], Awaitable[Outcome]],
    *,
    lanes: Mapping[str, int] | None = None,
    **options: Any,
) -> queue.Worker:
    return queue.Worker(
        pool=pool,
        dsn=Secret(dsn),
        lanes=lanes or {"end": 4},
        handlers={"end": each(handle), "issue": each(handle)},
        random=Half(),
        **options,
    )


@asynccontextmanager
async def working(*workers: queue.Worker) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def rows(pool: Pool, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(query, values)
        return await cursor.fetchall()


async def make(pool: Pool, *new: NewJob) -> None:
    async with pool.connection() as connection, connection.transaction():
        for job in new:
            await queue.enqueue(connection, job)


async def until(pool: Pool, query: LiteralString, *values: object) -> None:
    """Wait until a query answers true."""
    async with asyncio.timeout(PATIENCE):
        while not (await rows(pool, query, *values))[0][0]:  # it is elsewhere
            await asyncio.sleep(0.01)


async def claim(pool: Pool, *, lease: float = 30, free: int = 1) -> list[ClaimedJob]:
    async with pool.connection() as connection:
        return [*await jobs.claim(connection, "end", free=free, share=free, busy={}, lease=lease)]


async def test_a_job_is_gone_when_its_transaction_is(pool: Pool) -> None:
    async with pool.connection() as connection:
        async with connection.transaction() as transaction:
            assert await queue.enqueue(connection, a_job())
            transaction.force_rollback = True
        async with connection.transaction():
            assert await queue.enqueue(connection, a_job())
    assert await rows(pool, "SELECT count(*) FROM gatekeeper.job") == [(1,)]


async def test_fifty_enqueues_of_one_id_make_one_job(pool: Pool) -> None:
    async def enqueue() -> bool:
        async with pool.connection() as connection, connection.transaction():
            return await queue.enqueue(connection, a_job())

    made = await asyncio.gather(*(enqueue() for _ in range(50)))

    assert sum(made) == 1
    assert await rows(pool, "SELECT count(*) FROM gatekeeper.job") == [(1,)]


async def test_a_job_starts_when_it_is_due_by_the_databases_clock(
    pool: Pool, store_dsn: str
) -> None:
    async def handle(_job: ClaimedJob) -> Outcome:
        return Done()

    async with working(a_worker(pool, store_dsn, handle)):
        now = (await rows(pool, "SELECT clock_timestamp()"))[0][0]
        due = [now + timedelta(milliseconds=300 + 70 * n) for n in range(5)]
        await make(pool, *(a_job(n, due_at=at) for n, at in enumerate(due)))
        await until(pool, "SELECT count(*) = 5 FROM gatekeeper.job WHERE state = 'done'")

    late = [lag for (lag,) in await rows(pool, "SELECT started_at - due_at FROM gatekeeper.job")]
    assert timedelta(0) <= min(late)
    assert sorted(late)[2] < timedelta(milliseconds=50)
    assert max(late) < timedelta(milliseconds=500)


async def test_a_job_that_is_moved_runs_at_its_new_time(pool: Pool, store_dsn: str) -> None:
    ran = asyncio.Event()

    async def handle(_job: ClaimedJob) -> Outcome:
        ran.set()
        return Done()

    await make(pool, a_job(due_at=FAR))
    async with working(a_worker(pool, store_dsn, handle)):
        await asyncio.sleep(0.2)
        assert not ran.is_set()
        async with pool.connection() as connection:
            now = (await rows(pool, "SELECT clock_timestamp()"))[0][0]
            await queue.enqueue_or_move(connection, [a_job(due_at=now)])
        async with asyncio.timeout(2):
            await ran.wait()


async def test_a_done_job_that_is_moved_runs_once_more_and_a_running_one_is_left_alone(
    pool: Pool,
) -> None:
    await make(pool, a_job())
    (job,) = await claim(pool)
    async with pool.connection() as connection:
        now = datetime.now(UTC) - timedelta(seconds=1)  # noqa: TID251  # any past time will do
        await queue.enqueue_or_move(connection, [a_job(due_at=now)])
        assert await claim(pool) == []
        assert await queue.complete(connection, [job]) == {"job-1"}
        await queue.enqueue_or_move(connection, [a_job(due_at=now)])
    (again,) = await claim(pool)
    assert (again.id, again.attempts) == ("job-1", 1)


async def test_a_postponed_job_comes_back_as_new(pool: Pool) -> None:
    await make(pool, a_job())
    (job,) = await claim(pool)
    async with pool.connection() as connection:
        await queue.postpone(connection, job, FAR)
        assert not await queue.complete(connection, [job])
        with pytest.raises(queue.LeaseLostError):
            await queue.postpone(connection, job, FAR)
    assert await rows(pool, "SELECT state, due_at, attempts FROM gatekeeper.job") == [
        ("queued", FAR, 0)
    ]


async def test_retries_are_due_exactly_when_the_backoff_says(pool: Pool) -> None:
    backoff = queue.Backoff(first=4, most=10)
    await make(pool, a_job())
    pauses = []
    for _ in range(4):
        (job,) = await claim(pool)
        pause = backoff.pause(job.attempts, Half())
        async with pool.connection() as connection:
            await jobs.fail(connection, job, Retry("CODE", "why"), pause=pause)
        query: LiteralString = (
            "UPDATE gatekeeper.job SET due_at = clock_timestamp()"
            " RETURNING (SELECT due_at - clock_timestamp() FROM gatekeeper.job)"
        )
        ((left,),) = await rows(pool, query)
        pauses.append(left.total_seconds())
    assert pauses == pytest.approx([2, 4, 5, 5], abs=0.1)
    assert await rows(pool, "SELECT error_code, error_message FROM gatekeeper.job") == [
        ("CODE", "why")
    ]


async def test_a_failing_job_is_tried_its_number_of_times_and_then_given_up(
    pool: Pool, store_dsn: str
) -> None:
    attempts: list[int] = []
    heard: list[Outcome] = []
    dead: list[queue.DeadJob] = []

    async def handle(job: ClaimedJob) -> Outcome:
        attempts.append(job.attempts)
        return Retry("TARGET_BUSY", "a lock")

    worker = a_worker(
        pool,
        store_dsn,
        handle,
        finished=lambda _job, outcome: heard.append(outcome),
        on_dead=dead.append,
        backoff=queue.Backoff(first=0.02, most=0.1),
    )
    async with working(worker):
        await make(pool, a_job(max_attempts=3))
        await until(pool, "SELECT state = 'dead' FROM gatekeeper.job")
        await asyncio.sleep(0.05)

    assert attempts == [1, 2, 3]
    assert [type(outcome) for outcome in heard] == [Retry, Retry, queue.Dead]
    assert [(job.id, job.attempts, job.error_code) for job in dead] == [("job-1", 3, "TARGET_BUSY")]


async def test_what_nobody_foresaw_is_tried_again_and_its_text_is_not_kept(
    pool: Pool, store_dsn: str
) -> None:
    canary = "canary-password"

    async def handle(job: ClaimedJob) -> Outcome:
        if job.attempts == 1:
            raise ValueError(canary)
        if job.attempts == 2:
            raise TARGET_AWAY
        return queue.Dead("TARGET_REFUSED", "hopeless")

    async with working(
        a_worker(pool, store_dsn, handle, backoff=queue.Backoff(first=0.02, most=0.1))
    ):
        await make(pool, a_job())
        await until(pool, "SELECT error_code = 'INTERNAL_ERROR' FROM gatekeeper.job")
        ((message,),) = await rows(pool, "SELECT error_message FROM gatekeeper.job")
        await until(pool, "SELECT error_code = 'TARGET_UNREACHABLE' FROM gatekeeper.job")
        await until(pool, "SELECT state = 'dead' FROM gatekeeper.job")
    assert message == "unforeseen: ValueError"


async def test_the_effect_and_the_end_of_a_job_are_committed_together(
    pool: Pool, store_dsn: str
) -> None:
    async with pool.connection() as connection:
        await connection.execute("CREATE TABLE effect (attempt int)")

    async def handle(job: ClaimedJob) -> Outcome:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("INSERT INTO effect VALUES (%s)", (job.attempts,))
            await queue.complete(connection, [job])
            if job.attempts == 1:
                raise TARGET_AWAY
        return Settled()

    async with working(
        a_worker(pool, store_dsn, handle, backoff=queue.Backoff(first=0.02, most=0.1))
    ):
        await make(pool, a_job())
        await until(pool, "SELECT state = 'done' FROM gatekeeper.job")
    assert await rows(pool, "SELECT attempt FROM effect") == [(2,)]


async def test_what_a_worker_says_after_its_lease_is_not_heard(pool: Pool) -> None:
    await make(pool, a_job())
    (late,) = await claim(pool, lease=0.01)
    await asyncio.sleep(0.05)
    async with pool.connection() as connection:
        assert await jobs.reclaim(connection) == (["end"], [])
    (current,) = await claim(pool)

    async with pool.connection() as connection:
        assert not await queue.complete(connection, [late])
        assert await jobs.fail(connection, late, Retry("LATE", "late"), pause=0) is None
        await jobs.release(connection, [late.lease_token])
        assert await queue.complete(connection, [current, late]) == {"job-1"}

    assert await rows(pool, "SELECT state, attempts FROM gatekeeper.job") == [("done", 2)]


async def test_a_job_that_kills_its_workers_is_given_up(pool: Pool) -> None:
    await make(pool, a_job(max_attempts=1, target="pg-local"))
    await claim(pool, lease=0.01)
    await asyncio.sleep(0.05)
    async with pool.connection() as connection:
        _lanes, (dead,) = await jobs.reclaim(connection)
    assert (dead.id, dead.target, dead.error_code) == ("job-1", "pg-local", "JOB_EXPIRED")


async def test_claims_at_the_same_time_never_take_the_same_job(pool: Pool) -> None:
    await make(pool, *(a_job(n, target=f"pg-{n % 2}") for n in range(400)))

    async def claim_all() -> list[str]:
        claimed: list[str] = []
        while batch := await claim(pool, free=5):
            claimed += (job.id for job in batch)
        return claimed

    claimed = [
        job for batch in await asyncio.gather(*(claim_all() for _ in range(8))) for job in batch
    ]

    assert len(claimed) == len(set(claimed))
    assert await rows(pool, "SELECT max(attempts) FROM gatekeeper.job") == [(1,)]


async def test_a_job_that_a_transaction_is_moving_holds_up_nobody(pool: Pool) -> None:
    await make(pool, a_job(1), a_job(2))
    async with pool.connection() as connection, connection.transaction():
        await queue.enqueue_or_move(connection, [a_job(1, due_at=FAR)])
        async with asyncio.timeout(2):
            claimed = await claim(pool, free=5)
    assert [job.id for job in claimed] == ["job-2"]
    assert await claim(pool, free=5) == []


async def test_every_job_has_its_effect_once_though_workers_are_killed(
    pool: Pool, store_dsn: str
) -> None:
    count, lease = 300, 1.0
    async with pool.connection() as connection:
        await connection.execute("CREATE TABLE effect (job text)")
    await make(pool, *(a_job(n) for n in range(count)))
    program = Path(__file__).with_name("queue_worker_program.py")
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, program, store_dsn, str(lease))
        for _ in range(4)
    ]
    try:
        await until(pool, "SELECT count(*) > 40 FROM gatekeeper.job WHERE state = 'done'")
        for victim in workers[:3]:
            await until(pool, "SELECT count(*) > 2 FROM gatekeeper.job WHERE state = 'running'")
            victim.kill()
            await victim.wait()
        await until(pool, "SELECT count(*) = %s FROM gatekeeper.job WHERE state = 'done'", count)
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()

    assert await rows(pool, "SELECT count(*), count(DISTINCT job) FROM effect") == [(count, count)]
    ((again,),) = await rows(pool, "SELECT count(*) FROM gatekeeper.job WHERE attempts > 1")
    assert again > 0, "no job was taken over: the kill hit nobody, and this proved nothing"


async def test_the_job_of_a_dead_worker_is_taken_over_when_its_lease_ends(
    pool: Pool, store_dsn: str
) -> None:
    async def handle(_job: ClaimedJob) -> Outcome:
        return Done()

    await make(pool, a_job())
    await claim(pool, lease=0.7)
    ((ends,),) = await rows(pool, "SELECT lease_until FROM gatekeeper.job")
    async with working(a_worker(pool, store_dsn, handle)):
        await until(pool, "SELECT state = 'done' FROM gatekeeper.job")
    ((started,),) = await rows(pool, "SELECT started_at FROM gatekeeper.job")
    assert timedelta(0) < started - ends < timedelta(seconds=0.5)


async def test_a_job_longer_than_its_lease_stays_with_its_worker(
    pool: Pool, store_dsn: str
) -> None:
    ran: list[int] = []

    async def handle(job: ClaimedJob) -> Outcome:
        ran.append(job.attempts)
        await asyncio.sleep(1.2)
        return Done()

    async with working(*(a_worker(pool, store_dsn, handle, lease_seconds=0.45) for _ in range(2))):
        await make(pool, a_job())
        await until(pool, "SELECT state = 'done' FROM gatekeeper.job")
    assert ran == [1]


async def test_ten_thousand_due_clean_ups_do_not_delay_an_issue(pool: Pool, store_dsn: str) -> None:
    async def handle(job: ClaimedJob) -> Outcome:
        if job.lane == "end":
            await asyncio.sleep(0.005)
        return Done()

    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO gatekeeper.job (id, lane, kind, target, payload)"
            " SELECT 'end-' || n, 'end', 'end', 'pg-' || n %% 3, '{}'"
            " FROM generate_series(1, %s) AS n",
            (10_000,),
        )
    async with working(a_worker(pool, store_dsn, handle, lanes={"end": 16, "issue": 4})):
        await until(pool, "SELECT count(*) > 100 FROM gatekeeper.job WHERE state = 'done'")
        for number in range(10):
            await make(pool, a_job(number, lane="issue", kind="issue"))
            await asyncio.sleep(0.02)
        await until(
            pool, "SELECT count(*) = 10 FROM gatekeeper.job WHERE lane = 'issue' AND state = 'done'"
        )
        ((backlog,),) = await rows(
            pool, "SELECT count(*) FROM gatekeeper.job WHERE state = 'queued'"
        )
    late = [
        lag
        for (lag,) in await rows(
            pool, "SELECT started_at - due_at FROM gatekeeper.job WHERE lane = 'issue'"
        )
    ]
    assert backlog > 1_000, "the clean-ups were over too soon to prove anything"
    assert sorted(late)[5] < timedelta(milliseconds=150)
    assert max(late) < timedelta(seconds=1)


async def test_a_target_that_hangs_leaves_room_for_others(pool: Pool, store_dsn: str) -> None:
    hang = asyncio.Event()

    async def handle(job: ClaimedJob) -> Outcome:
        if job.target == "hangs":
            await hang.wait()
        return Done()

    async with working(a_worker(pool, store_dsn, handle)):
        await make(pool, *(a_job(n, target="hangs") for n in range(50)))
        await until(pool, "SELECT count(*) = 3 FROM gatekeeper.job WHERE state = 'running'")
        await make(pool, *(a_job(f"good-{n}", target="works") for n in range(10)))
        await make(pool, *(a_job(f"free-{n}") for n in range(10)))
        await until(pool, "SELECT count(*) = 20 FROM gatekeeper.job WHERE state = 'done'")
        hang.set()
        await until(pool, "SELECT count(*) = 70 FROM gatekeeper.job WHERE state = 'done'")


async def test_what_becomes_due_while_batches_run_goes_together_in_the_next(
    pool: Pool, store_dsn: str
) -> None:
    sizes: list[tuple[str | None, int]] = []
    go_on = asyncio.Event()

    async def handle(batch: Sequence[ClaimedJob]) -> Sequence[Outcome]:
        sizes.append((batch[0].target, len(batch)))
        await go_on.wait()
        return [Done() for _ in batch]

    worker = queue.Worker(
        pool=pool, dsn=Secret(store_dsn), lanes={"end": 40}, handlers={"end": handle},
        random=Half(), batch=4, batches={"end": 1},
    )  # fmt: skip
    async with working(worker):
        await make(pool, a_job("first", target="pg-1"))
        await until(pool, "SELECT state = 'running' FROM gatekeeper.job")
        await make(pool, *(a_job(n, target="pg-1") for n in range(4)), a_job("b", target="pg-2"))
        await until(pool, "SELECT state = 'running' FROM gatekeeper.job WHERE id = 'job-b'")
        go_on.set()
        await until(pool, "SELECT bool_and(state = 'done') FROM gatekeeper.job")
    assert sizes == [("pg-1", 1), ("pg-2", 1), ("pg-1", 4)]


async def test_a_job_that_breaks_a_batch_is_found_and_the_others_end_well(
    pool: Pool, store_dsn: str
) -> None:
    async def handle(batch: Sequence[ClaimedJob]) -> Sequence[Outcome]:
        if any(job.id == "job-2" for job in batch):
            raise ZeroDivisionError
        return [Done() for _ in batch]

    worker = queue.Worker(
        pool=pool, dsn=Secret(store_dsn), lanes={"end": 8}, handlers={"end": handle},
        random=Half(), batch=8, backoff=queue.Backoff(first=60, most=60),
    )  # fmt: skip
    await make(pool, *(a_job(n, target="pg") for n in range(4)))
    async with working(worker):
        await until(pool, "SELECT count(*) = 3 FROM gatekeeper.job WHERE state = 'done'")
        await until(pool, "SELECT state = 'queued' FROM gatekeeper.job WHERE id = 'job-2'")
    assert await rows(pool, "SELECT error_code FROM gatekeeper.job WHERE id = 'job-2'") == [
        ("INTERNAL_ERROR",)
    ]


async def test_a_worker_that_stops_finishes_what_it_can_and_gives_back_the_rest(
    pool: Pool, store_dsn: str
) -> None:
    async def handle(job: ClaimedJob) -> Outcome:
        await asyncio.sleep(0.3 if job.id == "job-1" else PATIENCE)
        return Done()

    async with working(a_worker(pool, store_dsn, handle, stop_seconds=0.8)):
        await make(pool, a_job(1), a_job(2))
        await until(pool, "SELECT count(*) = 2 FROM gatekeeper.job WHERE state = 'running'")
        await make(pool, a_job(3, due_at=FAR))
    assert await rows(pool, "SELECT id, state, attempts FROM gatekeeper.job ORDER BY id") == [
        ("job-1", "done", 1),
        ("job-2", "queued", 0),
        ("job-3", "queued", 0),
    ]


async def test_workers_heal_when_the_database_comes_back(tmp_path: Path) -> None:
    started: list[str] = []
    server = EmbeddedServer(tmp_path / "data", find_binaries(18))
    await server.start()
    dsn = server.dsn()
    await migrate(Secret(dsn))
    pool = Pool(Secret(dsn), name="test")
    await pool.open()
    over = asyncio.Event()

    async def handle(job: ClaimedJob) -> Outcome:
        started.append(job.id)
        if job.id == "job-through":
            await over.wait()
        return Done()

    try:
        async with working(a_worker(pool, dsn, handle)):
            await make(pool, a_job("before"), a_job("through"))
            await until(pool, "SELECT state = 'done' FROM gatekeeper.job WHERE id = 'job-before'")
            port = server.port
            await server.stop()
            over.set()
            await asyncio.sleep(0.3)
            server = EmbeddedServer(tmp_path / "data", find_binaries(18), port=port)
            await server.start()
            await make(pool, a_job("after"))
            await until(pool, "SELECT bool_and(state = 'done') FROM gatekeeper.job")
    finally:
        await pool.close()
        await server.stop()
    assert sorted(started) == ["job-after", "job-before", "job-through"]


async def test_depths_and_purge(pool: Pool) -> None:
    await make(pool, *(a_job(n) for n in range(3)), a_job("later", due_at=FAR))
    done, dead = await claim(pool, free=2)
    async with pool.connection() as connection:
        await queue.complete(connection, [done])
        await jobs.fail(connection, dead, queue.Dead("CODE", "why"), pause=0)
        (depth,) = await queue.depths(connection)
        assert (depth.lane, depth.queued, depth.running, depth.dead, depth.due) == (
            "end", 2, 0, 1, 1,
        )  # fmt: skip
        assert 0 < depth.oldest < PATIENCE
        assert await queue.purge(connection, timedelta(hours=1)) == 0
        assert await queue.purge(connection, timedelta(0)) == 1
    assert await rows(pool, "SELECT count(*) FROM gatekeeper.job") == [(3,)]


async def test_it_runs_on_every_supported_postgresql(target_server: EmbeddedServer) -> None:
    async with await psycopg.AsyncConnection.connect(target_server.dsn(), autocommit=True) as admin:
        await admin.execute("DROP DATABASE IF EXISTS queue_versions WITH (FORCE)")
        await admin.execute("CREATE DATABASE queue_versions")
        dsn = target_server.dsn("queue_versions")
        await migrate(Secret(dsn))
        pool = Pool(Secret(dsn), name="test")
        await pool.open()

        async def handle(_job: ClaimedJob) -> Outcome:
            return Done()

        try:
            async with working(a_worker(pool, dsn, handle)):
                await make(pool, *(a_job(n, target=f"pg-{n % 2}") for n in range(20)))
                await until(pool, "SELECT bool_and(state = 'done') FROM gatekeeper.job")
        finally:
            await pool.close()
        await admin.execute("DROP DATABASE queue_versions WITH (FORCE)")
