"""What a job is, and the statements over `gatekeeper.job`.

All times are the database's clock. A claim carries a lease token: what a worker
that lost its lease says about the job is not heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from psycopg import AsyncConnection

CHANNEL: Final = "gatekeeper_job"
LEASE_SECONDS: Final = 60
"""A worker that died is noticed after this long; longer than any job may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be made. `id` is its idempotency key; without `due_at` it is due now."""

    id: str
    lane: str
    kind: str
    payload: Mapping[str, Any]
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job that this worker holds until its lease ends."""

    id: str
    lane: str
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    lease_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many jobs of a lane are due, and the age of the oldest in seconds."""

    lane: str
    due: int
    oldest: float


_ENQUEUE: Final = """
INSERT INTO gatekeeper.job (id, lane, kind, payload, due_at)
VALUES (%s, %s, %s, %s, coalesce(%s, clock_timestamp()))
ON CONFLICT (id) DO NOTHING
"""

_CLAIM: Final = """
UPDATE gatekeeper.job SET
    state = 'running',
    attempts = attempts + 1,
    lease_token = nextval('gatekeeper.job_lease'),
    lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE id IN (
    SELECT id FROM gatekeeper.job
    WHERE lane = %(lane)s AND state = 'queued' AND due_at <= clock_timestamp()
    ORDER BY due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
RETURNING id, lane, kind, payload, attempts, lease_token
"""

_RECLAIM: Final = """
UPDATE gatekeeper.job SET state = 'queued', due_at = clock_timestamp(), lease_token = NULL
WHERE id IN (
    SELECT id FROM gatekeeper.job
    WHERE state = 'running' AND lease_until < clock_timestamp()
    LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""

_NEXT_DUE: Final = """
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8
FROM gatekeeper.job WHERE lane = %s AND state = 'queued'
"""

_COMPLETE: Final = """
UPDATE gatekeeper.job SET state = 'done', finished_at = clock_timestamp(), lease_token = NULL
WHERE id = %s AND lease_token = %s
"""

_POSTPONE: Final = """
UPDATE gatekeeper.job SET state = 'queued', due_at = %s, lease_token = NULL
WHERE id = %s AND lease_token = %s
"""

_RETRY: Final = """
UPDATE gatekeeper.job SET
    state = 'queued', due_at = clock_timestamp() + %s, lease_token = NULL,
    error_code = %s, error_message = %s
WHERE id = %s AND lease_token = %s
"""

_DEPTHS: Final = """
SELECT lane, count(*) AS due,
       extract(epoch FROM clock_timestamp() - min(due_at))::float8 AS oldest
FROM gatekeeper.job
WHERE state IN ('queued', 'running') AND due_at <= clock_timestamp()
GROUP BY lane
"""

_PURGE: Final = """
DELETE FROM gatekeeper.job WHERE id IN (
    SELECT id FROM gatekeeper.job
    WHERE state = 'done' AND finished_at < clock_timestamp() - %s
    LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""


async def enqueue(connection: AsyncConnection, job: NewJob) -> bool:
    """Make a job in the caller's transaction; False when one with its id exists."""
    cursor = await connection.execute(
        _ENQUEUE, (job.id, job.lane, job.kind, Jsonb(job.payload), job.due_at)
    )
    await wake(connection, job.lane)
    return cursor.rowcount == 1


async def reschedule(connection: AsyncConnection, job: str, lane: str, due_at: datetime) -> None:
    """Move a job to another time, also one that was done: it runs once more."""
    await connection.execute(
        "UPDATE gatekeeper.job SET due_at = %s,"
        " state = CASE WHEN state = 'running' THEN state ELSE 'queued' END WHERE id = %s",
        (due_at, job),
    )
    await wake(connection, lane)


async def complete(connection: AsyncConnection, job: ClaimedJob) -> bool:
    """End a job in the transaction of its effect; False when its lease was lost."""
    cursor = await connection.execute(_COMPLETE, (job.id, job.lease_token))
    return cursor.rowcount == 1


async def postpone(connection: AsyncConnection, job: ClaimedJob, due_at: datetime) -> bool:
    """Give a job back, to be run at a later time."""
    cursor = await connection.execute(_POSTPONE, (due_at, job.id, job.lease_token))
    await wake(connection, job.lane)
    return cursor.rowcount == 1


async def retry(
    connection: AsyncConnection, job: ClaimedJob, after: timedelta, code: str, message: str
) -> None:
    """Give a job back after a failure; `code` and `message` are ours, never a payload."""
    await connection.execute(_RETRY, (after, code, message, job.id, job.lease_token))
    await wake(connection, job.lane)


async def claim(connection: AsyncConnection, lane: str, most: int) -> Sequence[ClaimedJob]:
    """Take due jobs of a lane; no other worker has them."""
    cursor = connection.cursor(row_factory=class_row(ClaimedJob))
    await cursor.execute(_CLAIM, {"lane": lane, "most": most, "lease": LEASE_SECONDS})
    return await cursor.fetchall()


async def reclaim(connection: AsyncConnection) -> int:
    """Give back the jobs of workers that died; return how many there were."""
    cursor = await connection.execute(_RECLAIM)
    return cursor.rowcount


async def next_due(connection: AsyncConnection, lane: str) -> float | None:
    """Return in how many seconds the next job of a lane is due; None when there is none."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(_NEXT_DUE, (lane,))
    found = await cursor.fetchone()
    return None if found is None else float(found)


async def depths(connection: AsyncConnection) -> Sequence[Depth]:
    cursor = connection.cursor(row_factory=class_row(Depth))
    await cursor.execute(_DEPTHS)
    return await cursor.fetchall()


async def purge(connection: AsyncConnection, older_than: timedelta) -> int:
    """Delete a batch of jobs that are long done; return how many."""
    cursor = await connection.execute(_PURGE, (older_than,))
    return cursor.rowcount


async def wake(connection: AsyncConnection, lane: str) -> None:
    """Tell the workers of a lane to look again, when the transaction commits."""
    await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, lane))
