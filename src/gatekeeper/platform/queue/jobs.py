"""The statements over `gatekeeper.job`, each in the caller's transaction.

A claim carries a lease token, and a token is used up by whatever ends the claim: what
a worker that lost its lease says about the job is not heard (fencing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from gatekeeper.platform.queue.model import (
    MAX_MESSAGE_CHARS,
    ClaimedJob,
    Dead,
    DeadJob,
    Depth,
    LeaseLostError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from psycopg import AsyncConnection

    from gatekeeper.platform.queue.model import NewJob, Retry

CHANNEL: Final = "gatekeeper_job"
LOOK_AGAIN_SECONDS: Final = 5.0
"""The longest a lane trusts silence: notifications can be lost, jobs cannot."""
NOTIFY_WITHIN_SECONDS: Final = 2 * LOOK_AGAIN_SECONDS
"""Jobs due later wake nobody: every lane looks again in time, also when the enqueuing
transaction stays open for as long as one look. (NOTIFY serialises commits.)"""
BATCH_ROWS: Final = 1_000
"""What one statement of the housekeeping changes at most."""

_NOTIFY: Final = {"channel": CHANNEL, "within": NOTIFY_WITHIN_SECONDS}

_ENQUEUE: Final = """
WITH made AS (
    INSERT INTO gatekeeper.job (id, lane, kind, target, payload, due_at, max_attempts)
    VALUES (%(id)s, %(lane)s, %(kind)s, coalesce(%(target)s, ''), %(payload)s,
            coalesce(%(due_at)s, clock_timestamp()), %(max_attempts)s)
    ON CONFLICT (id) DO NOTHING
    RETURNING lane, due_at)
SELECT CASE WHEN due_at < clock_timestamp() + make_interval(secs => %(within)s)
            THEN pg_notify(%(channel)s, lane) END
FROM made
"""

# Ids are locked in one order, so that two such transactions cannot wait for each other.
_ENQUEUE_OR_MOVE: Final = """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::text[], %(lanes)s::text[], %(kinds)s::text[],
        %(targets)s::text[], %(payloads)s::jsonb[], %(dues)s::timestamptz[], %(mosts)s::int[])
        AS g (id, lane, kind, target, payload, due_at, max_attempts)
    ORDER BY id
), held AS (
    INSERT INTO gatekeeper.job AS job (id, lane, kind, target, payload, due_at, max_attempts)
    SELECT id, lane, kind, target, payload, coalesce(due_at, clock_timestamp()), max_attempts
    FROM given
    ON CONFLICT (id) DO UPDATE SET
        due_at = excluded.due_at,
        attempts = CASE WHEN job.state = 'queued' THEN job.attempts ELSE 0 END,
        state = 'queued',
        finished_at = NULL
        WHERE job.state <> 'running'
    RETURNING lane, due_at)
SELECT pg_notify(%(channel)s, lane) FROM held
WHERE due_at < clock_timestamp() + make_interval(secs => %(within)s) GROUP BY lane
"""

_COMPLETE: Final = """
UPDATE gatekeeper.job SET
    state = 'done', finished_at = clock_timestamp(), lease_token = NULL, lease_until = NULL
WHERE id IN (
    SELECT job.id FROM gatekeeper.job
    JOIN unnest(%(ids)s::text[], %(tokens)s::bigint[]) AS claim (id, token)
        ON job.id = claim.id AND job.lease_token = claim.token
    ORDER BY job.id FOR UPDATE OF job)
RETURNING id
"""

_POSTPONE: Final = """
UPDATE gatekeeper.job SET
    state = 'queued', due_at = %(at)s, attempts = 0, lease_token = NULL, lease_until = NULL
WHERE id = %(id)s AND lease_token = %(token)s
RETURNING CASE WHEN due_at < clock_timestamp() + make_interval(secs => %(within)s)
               THEN pg_notify(%(channel)s, lane) END
"""

_FAIL: Final = """
UPDATE gatekeeper.job SET
    state = CASE WHEN %(dead)s OR attempts >= max_attempts THEN 'dead' ELSE 'queued' END,
    finished_at = CASE WHEN %(dead)s OR attempts >= max_attempts THEN clock_timestamp() END,
    due_at = clock_timestamp() + make_interval(secs => %(pause)s),
    error_code = %(code)s, error_message = %(message)s,
    lease_token = NULL, lease_until = NULL
WHERE id = %(id)s AND lease_token = %(token)s
RETURNING state
"""

# One row for each target of the lane, its earliest job: a loose scan of the index, so it
# costs a probe for each target, however many jobs wait.
_HEADS: Final = """
WITH RECURSIVE head AS (
    (SELECT target, due_at FROM gatekeeper.job
     WHERE state = 'queued' AND lane = %(lane)s
     ORDER BY lane, target, due_at LIMIT 1)
    UNION ALL
    SELECT later.target, later.due_at FROM head CROSS JOIN LATERAL (
        SELECT target, due_at FROM gatekeeper.job
        WHERE state = 'queued' AND lane = %(lane)s AND target > head.target
        ORDER BY lane, target, due_at LIMIT 1) AS later
), busy AS (
    SELECT target, jobs FROM unnest(%(targets)s::text[], %(jobs)s::int[]) AS b (target, jobs)
), waiting AS (
    SELECT head.target, head.due_at, coalesce(busy.jobs, 0) AS jobs,
           CASE WHEN head.target = '' THEN %(free)s::int
                ELSE %(share)s::int - coalesce(busy.jobs, 0) END AS room
    FROM head LEFT JOIN busy USING (target)
)
"""

# statement_timestamp(), not clock_timestamp(): an index is searched for a stable value only.
_CLAIM: Final = (
    _HEADS  # noqa: S608  # two literals
    + """
, fair AS (
    SELECT target, least(room, greatest(1, %(free)s::int / count(*) OVER ())) AS most
    FROM waiting WHERE due_at <= statement_timestamp() AND room > 0
    ORDER BY jobs, due_at
), due AS (
    SELECT taken.id FROM fair CROSS JOIN LATERAL (
        SELECT id FROM gatekeeper.job
        WHERE state = 'queued' AND lane = %(lane)s AND target = fair.target
          AND due_at <= statement_timestamp()
        ORDER BY lane, target, due_at LIMIT fair.most
        FOR UPDATE SKIP LOCKED) AS taken
    LIMIT %(free)s::int
)
UPDATE gatekeeper.job SET
    state = 'running',
    attempts = attempts + 1,
    started_at = clock_timestamp(),
    lease_token = nextval('gatekeeper.job_lease'),
    lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
FROM due WHERE job.id = due.id
RETURNING job.id, lane, kind, payload, nullif(target, '') AS target, attempts, lease_token
"""
)

_NEXT_DUE: Final = (
    _HEADS
    + """
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM waiting WHERE room > 0
"""
)

# Rows that a transaction of a handler is just ending are left alone: waiting for them
# while holding others is how a deadlock is made.
_RENEW: Final = """
UPDATE gatekeeper.job SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE id IN (
    SELECT id FROM gatekeeper.job
    WHERE state = 'running' AND lease_token = ANY(%(tokens)s)
    FOR UPDATE SKIP LOCKED)
"""

_RECLAIM: Final = """
UPDATE gatekeeper.job SET
    state = CASE WHEN attempts >= max_attempts THEN 'dead' ELSE 'queued' END,
    finished_at = CASE WHEN attempts >= max_attempts THEN clock_timestamp() END,
    due_at = clock_timestamp(), lease_token = NULL, lease_until = NULL,
    error_code = 'JOB_EXPIRED', error_message = 'its worker did not renew the lease'
WHERE id IN (
    SELECT id FROM gatekeeper.job
    WHERE state = 'running' AND lease_until < clock_timestamp()
    LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING state = 'dead' AS dead, id, lane, kind, nullif(target, '') AS target, attempts,
          error_code, error_message
"""

_NEXT_EXPIRY: Final = """
SELECT extract(epoch FROM min(lease_until) - clock_timestamp())::float8
FROM gatekeeper.job WHERE state = 'running'
"""

_RELEASE: Final = """
UPDATE gatekeeper.job SET
    state = 'queued', attempts = attempts - 1, lease_token = NULL, lease_until = NULL
WHERE state = 'running' AND lease_token = ANY(%s)
RETURNING lane
"""

_DEPTHS: Final = """
SELECT lane,
       count(*) FILTER (WHERE state = 'queued') AS queued,
       count(*) FILTER (WHERE state = 'running') AS running,
       count(*) FILTER (WHERE state = 'dead') AS dead,
       count(*) FILTER (WHERE state <> 'dead' AND due_at <= statement_timestamp()) AS due,
       coalesce(extract(epoch FROM statement_timestamp() - min(due_at) FILTER (
           WHERE state <> 'dead' AND due_at <= statement_timestamp()))::float8, 0) AS oldest
FROM gatekeeper.job WHERE state <> 'done' GROUP BY lane ORDER BY lane
"""

_PURGE: Final = """
DELETE FROM gatekeeper.job WHERE id IN (
    SELECT id FROM gatekeeper.job
    WHERE state = 'done' AND finished_at < statement_timestamp() - %s
    ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""


async def enqueue(connection: AsyncConnection, job: NewJob) -> bool:
    """Make a job; False when there is, or ever was, one with its id."""
    cursor = await connection.execute(
        _ENQUEUE,
        {
            "id": job.id,
            "lane": job.lane,
            "kind": job.kind,
            "target": job.target,
            "payload": Jsonb(job.payload),
            "due_at": job.due_at,
            "max_attempts": job.max_attempts,
            **_NOTIFY,
        },
    )
    return await cursor.fetchone() is not None


async def enqueue_or_move(connection: AsyncConnection, jobs: Sequence[NewJob]) -> None:
    """Make jobs, and move those that are there to another time; done or dead ones run once more.

    One that is just running is left alone: that attempt sees what the caller's transaction
    changes, or has to look again itself.
    """
    values: dict[str, object] = {
        "ids": [job.id for job in jobs],
        "lanes": [job.lane for job in jobs],
        "kinds": [job.kind for job in jobs],
        "targets": [job.target or "" for job in jobs],
        "payloads": [Jsonb(job.payload) for job in jobs],
        "dues": [job.due_at for job in jobs],
        "mosts": [job.max_attempts for job in jobs],
        **_NOTIFY,
    }
    await connection.execute(_ENQUEUE_OR_MOVE, values)


async def complete(connection: AsyncConnection, jobs: Sequence[ClaimedJob]) -> Collection[str]:
    """End those of the jobs whose lease still holds; return their ids.

    Only the effects of these may be stored by the caller's transaction.
    """
    values = {"ids": [job.id for job in jobs], "tokens": [job.lease_token for job in jobs]}
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(_COMPLETE, values)
    return frozenset(await cursor.fetchall())


async def postpone(connection: AsyncConnection, job: ClaimedJob, due_at: datetime) -> None:
    """Give a job back in the caller's transaction, to run at a later time: no failure.

    Raises `LeaseLostError`, which must undo the transaction.
    """
    values = {"id": job.id, "token": job.lease_token, "at": due_at, **_NOTIFY}
    if await (await connection.execute(_POSTPONE, values)).fetchone() is None:
        raise LeaseLostError(job.id)


async def fail(
    connection: AsyncConnection, job: ClaimedJob, why: Retry | Dead, *, pause: float
) -> str | None:
    """Give a job back after a failure, due in `pause` seconds, or give it up.

    Returns its new state, `queued` or `dead`; None when its lease was lost.
    """
    values = {
        "id": job.id,
        "token": job.lease_token,
        "pause": pause,
        "dead": isinstance(why, Dead),
        "code": why.code,
        "message": why.message[:MAX_MESSAGE_CHARS],
    }
    cursor = await connection.execute(_FAIL, values)
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def claim(
    connection: AsyncConnection,
    lane: str,
    *,
    free: int,
    share: int,
    busy: Mapping[str, int],
    lease: float,
) -> Sequence[ClaimedJob]:
    """Take at most `free` due jobs of a lane; nobody else gets them for `lease` seconds.

    `busy` says how many jobs of each target are running here; none gets more than `share`.
    Targets with fewer come first.
    """
    cursor = connection.cursor(row_factory=class_row(ClaimedJob))
    values = {**_lane_values(lane, free=free, share=share, busy=busy), "lease": lease}
    await cursor.execute(_CLAIM, values, prepare=True)
    return await cursor.fetchall()


async def next_due(
    connection: AsyncConnection, lane: str, *, free: int, share: int, busy: Mapping[str, int]
) -> float | None:
    """Return in how many seconds the next job that could be taken is due; None for never."""
    cursor = connection.cursor(row_factory=scalar_row)
    values = _lane_values(lane, free=free, share=share, busy=busy)
    await cursor.execute(_NEXT_DUE, values, prepare=True)
    return await cursor.fetchone()


def _lane_values(
    lane: str, *, free: int, share: int, busy: Mapping[str, int]
) -> dict[str, str | int | float | list[str] | list[int]]:
    return {
        "lane": lane,
        "free": free,
        "share": share,
        "targets": list(busy),
        "jobs": list(busy.values()),
    }


async def renew(connection: AsyncConnection, tokens: Collection[int], lease: float) -> None:
    """Hold claimed jobs for `lease` more seconds from now."""
    await connection.execute(_RENEW, {"tokens": list(tokens), "lease": lease})


async def reclaim(connection: AsyncConnection) -> tuple[Sequence[str], Sequence[DeadJob]]:
    """Give back the jobs whose workers died; return their lanes, and those given up."""
    cursor = await connection.execute(_RECLAIM, (BATCH_ROWS,))
    rows = await cursor.fetchall()
    lanes = sorted({str(row[2]) for row in rows})
    for lane in lanes:
        await wake(connection, lane)
    return lanes, [_dead_job(row[1:]) for row in rows if row[0]]


def _dead_job(row: Sequence[object]) -> DeadJob:
    names = ("id", "lane", "kind", "target", "attempts", "error_code", "error_message")
    return DeadJob(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]


async def next_expiry(connection: AsyncConnection) -> float | None:
    """Return in how many seconds the next lease ends; None when none is held."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(_NEXT_EXPIRY)
    return await cursor.fetchone()


async def release(connection: AsyncConnection, tokens: Collection[int]) -> None:
    """Give claimed jobs back as if they had never been taken."""
    cursor = await connection.execute(_RELEASE, (list(tokens),))
    for lane in sorted({str(row[0]) for row in await cursor.fetchall()}):
        await wake(connection, lane)


async def depths(connection: AsyncConnection) -> Sequence[Depth]:
    """Count what is not done, lane by lane."""
    cursor = connection.cursor(row_factory=class_row(Depth))
    await cursor.execute(_DEPTHS)
    return await cursor.fetchall()


async def purge(connection: AsyncConnection, older_than: timedelta) -> int:
    """Delete a batch of jobs that are long done; return how many. Dead ones stay."""
    return (await connection.execute(_PURGE, (older_than, BATCH_ROWS))).rowcount


async def wake(connection: AsyncConnection, lane: str) -> None:
    """Tell the workers of a lane to look again, when the transaction commits."""
    await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, lane))
