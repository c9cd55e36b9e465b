"""Sessions in PostgreSQL. `_session` is the one place that knows the columns."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

from psycopg.rows import dict_row

from gatekeeper.databases.model import Failure, Session, SessionChange
from gatekeeper.kernel.errors import IntegrityError
from gatekeeper.kernel.ids import RoleName, SessionId, job_id
from gatekeeper.kernel.session import SessionStatus, may_move
from gatekeeper.platform import queue
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.telemetry import traces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from psycopg import AsyncConnection

    from gatekeeper.databases.model import Move, SessionFilter
    from gatekeeper.databases.ports import JobClaim, SessionUnit
    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.platform.postgres.pool import Pool

ISSUE: Final = "issue"
END: Final = "end"
CLEANUP: Final = "cleanup"
CHANNEL: Final = "gatekeeper_session"
TRACE: Final = traces.HEADER
"""Where a job's payload says to which trace it belongs."""

_ADD: Final = """
INSERT INTO gatekeeper.session
    (id, status, requester, requester_email, target, role, reason, grant_name, username,
     ttl, max_ttl, verifier, correlation_id, created_at)
VALUES
    (%(id)s, %(status)s, %(requester)s, %(requester_email)s, %(target)s, %(role)s, %(reason)s,
     %(grant)s, %(username)s, %(ttl)s, %(max_ttl)s, %(verifier)s, %(correlation_id)s,
     %(created_at)s)
RETURNING *
"""

# A session that ends at its TTL ended *then*, however late that was noticed: the lag
# is counted from here. Secrets and verifiers go when nothing can use them any more.
_MOVE: Final = """
UPDATE gatekeeper.session s SET
    status = m.status,
    ready_at = CASE WHEN m.status = 'ready' THEN clock_timestamp() ELSE s.ready_at END,
    expires_at = coalesce(m.expires_at, s.expires_at),
    ended_at = CASE
        WHEN m.status = 'expired' THEN coalesce(s.expires_at, clock_timestamp())
        WHEN m.status IN ('revoked', 'failed') THEN clock_timestamp()
        ELSE s.ended_at END,
    cleaned_at = CASE WHEN m.status = 'cleaned' THEN clock_timestamp() END,
    verifier = CASE WHEN m.status = 'ready' THEN s.verifier END,
    sealed_password = CASE WHEN m.status = 'ready' THEN m.sealed_password END,
    error_code = CASE WHEN m.status = 'cleaned' THEN s.error_code ELSE m.code END,
    error_message = CASE WHEN m.status = 'cleaned' THEN s.error_message ELSE m.message END,
    error_retryable = CASE WHEN m.status = 'cleaned' THEN s.error_retryable ELSE m.retryable END
FROM unnest(%(ids)s::text[], %(statuses)s::text[], %(expires_at)s::timestamptz[],
    %(sealed_passwords)s::text[], %(codes)s::text[], %(messages)s::text[],
    %(retryable)s::boolean[])
    AS m (id, status, expires_at, sealed_password, code, message, retryable)
WHERE s.id = m.id
RETURNING s.*
"""

_CHANGED: Final = """
WITH changed AS (
    INSERT INTO gatekeeper.session_change (session_id, requester, target, role, status)
    SELECT * FROM unnest(%(ids)s::text[], %(requesters)s::text[], %(targets)s::text[],
        %(roles)s::text[], %(statuses)s::text[])
    RETURNING session_id)
SELECT pg_notify(%(channel)s, session_id) FROM changed
"""

_PENDING: Final = """
SELECT s.*, read_at FROM (SELECT clock_timestamp() AS read_at OFFSET 0) AS clock
LEFT JOIN gatekeeper.session s ON s.id = ANY(%(ids)s) AND s.status = 'pending'
  AND s.created_at >= read_at - %(within)s::interval
"""

_FIND: Final = """
SELECT * FROM gatekeeper.session
WHERE (%(requester)s::text IS NULL OR requester = %(requester)s)
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(target)s::text IS NULL OR target = %(target)s)
  AND (%(role)s::text IS NULL OR role = %(role)s)
  AND (%(before_at)s::timestamptz IS NULL
       OR (created_at, id) < (%(before_at)s, %(before_id)s::text))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
"""

_DRAW: Final = """
INSERT INTO gatekeeper.rate_bucket AS b (requester, tokens, updated_at)
VALUES (%(requester)s, %(most)s - 1, clock_timestamp())
ON CONFLICT (requester) DO UPDATE SET
    tokens = least(%(most)s, b.tokens
        + extract(epoch FROM clock_timestamp() - b.updated_at) * %(most)s / 60.0) - 1,
    updated_at = clock_timestamp()
WHERE least(%(most)s, b.tokens
        + extract(epoch FROM clock_timestamp() - b.updated_at) * %(most)s / 60.0) >= 1
RETURNING 0.0 AS wait
"""

_NEXT_DRAW: Final = """
SELECT greatest(0.001, (1 - tokens) * 60.0 / %(most)s
    - extract(epoch FROM clock_timestamp() - updated_at))::float8 AS wait
FROM gatekeeper.rate_bucket WHERE requester = %(requester)s
"""

_CHANGES: Final = """
SELECT * FROM gatekeeper.session_change
WHERE (xid, seq) > (%s::text::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, seq LIMIT %s
"""

_PRESENT: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 AS xid
"""

Row = dict[str, Any]


class PostgresSessionStore:
    """The `SessionStore` port on the control plane's own database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SessionUnit]:
        async with (
            self._pool.connection() as connection,
            connection.pipeline(),  # statements whose answers nobody reads wait for none
            connection.transaction() as tx,
        ):
            unit = _Unit(connection)
            yield unit
            tx.force_rollback = unit.abandoned

    async def take_token(self, requester: str, per_minute: int) -> float:
        values = {"requester": requester, "most": float(per_minute)}
        async with self._pool.connection() as connection:
            if await _one(connection, _DRAW, values) is not None:
                return 0.0
            row = await _one(connection, _NEXT_DRAW, values)
        return float(row["wait"]) if row is not None else 1.0

    async def find_key(self, requester: str, key: str) -> tuple[str, SessionId] | None:
        async with self._pool.connection() as connection:
            return await _bound(connection, requester, key)

    async def get(self, session: SessionId) -> Session | None:
        async with self._pool.connection() as connection:
            row = await _one(
                connection, "SELECT * FROM gatekeeper.session WHERE id = %(id)s", {"id": session}
            )
        return None if row is None else _session(row)

    async def pending(
        self, sessions: Sequence[SessionId], within: timedelta
    ) -> tuple[Sequence[Session], datetime]:
        values = {"ids": list(sessions), "within": within}
        async with self._pool.connection() as connection:
            rows = await _all(connection, _PENDING, values)
        return [_session(row) for row in rows if row["id"] is not None], rows[0]["read_at"]

    async def find(self, wanted: SessionFilter) -> Sequence[Session]:
        before_at, before_id = wanted.before or (None, None)
        values = {
            "requester": wanted.requester,
            "status": wanted.status,
            "target": wanted.target,
            "role": wanted.role,
            "limit": wanted.limit,
            "before_at": before_at,
            "before_id": before_id,
        }
        async with self._pool.connection() as connection:
            return [_session(row) for row in await _all(connection, _FIND, values)]

    async def not_cleaned(self, target: str) -> Sequence[Session]:
        async with self._pool.connection() as connection:
            rows = await _all(
                connection,
                "SELECT * FROM gatekeeper.session"
                " WHERE target = %(target)s AND status NOT IN ('cleaned', 'denied')",
                {"target": target},
            )
        return [_session(row) for row in rows]

    async def changes(
        self, after: tuple[int, int] | None, limit: int
    ) -> tuple[Sequence[SessionChange], tuple[int, int]]:
        async with self._pool.connection() as connection:
            if after is None:
                row = await _one(connection, _PRESENT, {})
                return (), (int(row["xid"]) if row is not None else 0, 0)
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_CHANGES, (str(after[0]), after[1], limit))
            found = [_change(row) for row in await cursor.fetchall()]
        return found, (found[-1].cursor if found else after)


class _Unit:
    """The `SessionUnit` port: one open transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.abandoned = False

    async def now(self) -> datetime:
        row = await _one(self._connection, "SELECT clock_timestamp() AS now", {})
        return cast("Row", row)["now"]  # type: ignore[no-any-return]

    async def claim_key(
        self, requester: str, key: str, body_sha256: str, session: SessionId
    ) -> tuple[str, SessionId] | None:
        cursor = await self._connection.execute(
            "INSERT INTO gatekeeper.idempotency_key (requester, key, body_sha256, session_id)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING key",
            (requester, key, body_sha256, session),
        )
        if await cursor.fetchone() is not None:
            return None
        return await _bound(self._connection, requester, key)

    async def count_open(self, requester: str) -> int:
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (requester,)
        )
        row = await _one(
            self._connection,
            "SELECT count(*) AS open FROM gatekeeper.session WHERE requester = %(requester)s"
            " AND status IN ('awaiting_approval', 'pending', 'ready')",
            {"requester": requester},
        )
        return int(cast("Row", row)["open"])

    async def add(self, session: Session) -> Session:
        values = {
            "id": session.id,
            "status": session.status,
            "requester": session.requester,
            "requester_email": session.requester_email,
            "target": session.target,
            "role": session.role,
            "reason": session.reason,
            "grant": session.grant,
            "username": session.username,
            "ttl": session.ttl,
            "max_ttl": session.max_ttl,
            "verifier": session.verifier,
            "correlation_id": session.correlation_id,
            "created_at": session.created_at,
        }
        (added,) = await self._changed(
            [_session(cast("Row", await _one(self._connection, _ADD, values)))]
        )
        return added

    async def lock(self, session: SessionId) -> Session | None:
        return (await self.lock_all([session])).get(session)

    async def lock_all(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, Session]:
        rows = await _all(
            self._connection,
            # In one order everywhere, or two that lock the same sessions wait for each other.
            "SELECT * FROM gatekeeper.session WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE",
            {"ids": list(sessions)},
        )
        found = [_session(row) for row in rows]
        return {session.id: session for session in found}

    async def move_all(self, moves: Sequence[Move]) -> Sequence[Session]:
        if not moves:
            return ()
        for move in moves:
            _check(move)
        errors = [_error_values(move.error) for move in moves]
        values = {
            "ids": [move.session.id for move in moves],
            "statuses": [move.to for move in moves],
            "expires_at": [move.expires_at for move in moves],
            "sealed_passwords": [move.sealed_password for move in moves],
            "codes": [error["code"] for error in errors],
            "messages": [error["message"] for error in errors],
            "retryable": [error["retryable"] for error in errors],
        }
        rows = await _all(self._connection, _MOVE, values)
        return await self._changed([_session(row) for row in rows])

    async def set_expiry(self, session: Session, expires_at: datetime) -> Session:
        row = await _one(
            self._connection,
            "UPDATE gatekeeper.session SET expires_at = %(at)s WHERE id = %(id)s RETURNING *",
            {"id": session.id, "at": expires_at},
        )
        (changed,) = await self._changed([_session(cast("Row", row))])
        return changed

    async def note_error(self, session: Session, error: Failure) -> Session:
        row = await _one(
            self._connection,
            "UPDATE gatekeeper.session SET error_code = %(code)s, error_message = %(message)s,"
            " error_retryable = %(retryable)s WHERE id = %(id)s RETURNING *",
            {"id": session.id, **_error_values(error)},
        )
        return _session(cast("Row", row))

    async def record(self, *events: AuditEvent) -> None:
        await outbox.record(self._connection, *events)

    async def schedule_issue(self, session: Session) -> None:
        await queue.enqueue(self._connection, _job(ISSUE, session, due_at=None))

    async def schedule_ends(self, ends: Sequence[tuple[Session, datetime]]) -> None:
        jobs = [_job(END, session, due_at=at) for session, at in ends]
        await queue.enqueue_or_move(self._connection, jobs)

    async def schedule_clean_up(self, target: str) -> None:
        job = queue.NewJob(
            id=f"{CLEANUP}:{target}", lane=CLEANUP, kind=CLEANUP, payload={}, target=target
        )
        await queue.enqueue_or_move(self._connection, [job])

    async def settle(self, claims: Sequence[JobClaim]) -> Sequence[JobClaim]:
        ended = await queue.complete(self._connection, [_claimed(c) for c in claims])
        return [claim for claim in claims if _claimed(claim).id in ended]

    async def postpone(self, claim: JobClaim, at: datetime) -> None:
        await queue.postpone(self._connection, _claimed(claim), at)

    async def abandon(self) -> None:
        self.abandoned = True

    async def _changed(self, sessions: Sequence[Session]) -> Sequence[Session]:
        """Tell the watchers, with the commit."""
        values = {
            "ids": [session.id for session in sessions],
            "requesters": [session.requester for session in sessions],
            "targets": [session.target for session in sessions],
            "roles": [session.role for session in sessions],
            "statuses": [session.status for session in sessions],
            "channel": CHANNEL,
        }
        await self._connection.execute(_CHANGED, values)
        return sessions


def _check(move: Move) -> None:
    if not may_move(move.session.status, move.to):
        msg = f"session {move.session.id} cannot go from {move.session.status} to {move.to}"
        raise IntegrityError(msg)


def _job(kind: str, session: Session, due_at: datetime | None) -> queue.NewJob:
    running = traces.traceparent()
    trace = {} if running is None else {TRACE: running}
    return queue.NewJob(
        id=job_id(kind, session.id),
        lane=kind,
        kind=kind,
        payload={"sessionId": session.id, **trace},
        target=session.target,
        due_at=due_at,
    )


def _claimed(claim: JobClaim) -> queue.ClaimedJob:
    return cast("Claim", claim).job


class Claim:
    """A claimed job of the queue, in this plane's words."""

    def __init__(self, job: queue.ClaimedJob) -> None:
        self.job = job

    @property
    def session(self) -> SessionId:
        return SessionId(str(self.job.payload["sessionId"]))

    @property
    def target(self) -> str:
        return self.job.target or ""


async def _one(
    connection: AsyncConnection, query: LiteralString, values: Mapping[str, object]
) -> Row | None:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query, values)
    return await cursor.fetchone()


async def _all(
    connection: AsyncConnection, query: LiteralString, values: Mapping[str, object]
) -> Sequence[Row]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query, values)
    return await cursor.fetchall()


async def _bound(
    connection: AsyncConnection, requester: str, key: str
) -> tuple[str, SessionId] | None:
    row = await _one(
        connection,
        "SELECT body_sha256, session_id FROM gatekeeper.idempotency_key"
        " WHERE requester = %(requester)s AND key = %(key)s",
        {"requester": requester, "key": key},
    )
    return None if row is None else (row["body_sha256"], SessionId(row["session_id"]))


def _error_values(error: Failure | None) -> Row:
    if error is None:
        return {"code": None, "message": None, "retryable": None}
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def _session(row: Row) -> Session:
    return Session(
        id=SessionId(row["id"]),
        status=SessionStatus(row["status"]),
        requester=row["requester"],
        requester_email=row["requester_email"],
        target=row["target"],
        role=row["role"],
        reason=row["reason"],
        grant=row["grant_name"],
        username=RoleName(row["username"]),
        ttl=row["ttl"],
        max_ttl=row["max_ttl"],
        verifier=row["verifier"],
        sealed_password=row["sealed_password"],
        correlation_id=row["correlation_id"],
        created_at=row["created_at"],
        ready_at=row["ready_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        cleaned_at=row["cleaned_at"],
        error=_failure(row),
    )


def _failure(row: Row) -> Failure | None:
    if row["error_code"] is None:
        return None
    return Failure(
        code=row["error_code"],
        message=row["error_message"],
        retryable=bool(row["error_retryable"]),
    )


def _change(row: Row) -> SessionChange:
    return SessionChange(
        cursor=(int(row["xid"]), row["seq"]),
        session_id=SessionId(row["session_id"]),
        requester=row["requester"],
        target=row["target"],
        role=row["role"],
        status=SessionStatus(row["status"]),
        at=row["at"],
    )
