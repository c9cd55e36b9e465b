"""One open transaction over sessions, their jobs and their evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from gatekeeper.databases.adapters.store.rows import session_of
from gatekeeper.kernel.errors import IntegrityError
from gatekeeper.kernel.ids import SessionId, job_id
from gatekeeper.kernel.session import may_move
from gatekeeper.platform import queue
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.postgres.failures import failure_values
from gatekeeper.platform.postgres.keys import bound_to_key, claim_key
from gatekeeper.platform.postgres.rows import every, only
from gatekeeper.platform.telemetry import traces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from gatekeeper.databases.model import Move, Session
    from gatekeeper.databases.ports import JobClaim
    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.kernel.errors import Failure

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


class Unit:
    """The `SessionUnit` port: one open transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.abandoned = False

    async def now(self) -> datetime:
        row = await only(self._connection, "SELECT clock_timestamp() AS now", {})
        return cast("datetime", row["now"])

    async def claim_key(
        self, requester: str, key: str, body_sha256: str, session: SessionId
    ) -> tuple[str, SessionId] | None:
        if await claim_key(self._connection, requester, key, body_sha256, session):
            return None
        return await bound_to_key(self._connection, requester, key, SessionId)

    async def count_open(self, requester: str) -> int:
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (requester,)
        )
        row = await only(
            self._connection,
            "SELECT count(*) AS open FROM gatekeeper.session WHERE requester = %(requester)s"
            " AND status IN ('awaiting_approval', 'pending', 'ready')",
            {"requester": requester},
        )
        return int(row["open"])

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
        added = session_of(await only(self._connection, _ADD, values))
        await self._changed([added])
        return added

    async def lock(self, session: SessionId) -> Session | None:
        return (await self.lock_all([session])).get(session)

    async def lock_all(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, Session]:
        rows = await every(
            self._connection,
            # In one order everywhere, or two that lock the same sessions wait for each other.
            "SELECT * FROM gatekeeper.session WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE",
            {"ids": list(sessions)},
        )
        found = [session_of(row) for row in rows]
        return {session.id: session for session in found}

    async def move_all(self, moves: Sequence[Move]) -> Sequence[Session]:
        if not moves:
            return ()
        for move in moves:
            _check(move)
        errors = [failure_values(move.error) for move in moves]
        values = {
            "ids": [move.session.id for move in moves],
            "statuses": [move.to for move in moves],
            "expires_at": [move.expires_at for move in moves],
            "sealed_passwords": [move.sealed_password for move in moves],
            "codes": [error["code"] for error in errors],
            "messages": [error["message"] for error in errors],
            "retryable": [error["retryable"] for error in errors],
        }
        rows = await every(self._connection, _MOVE, values)
        moved = [session_of(row) for row in rows]
        await self._changed(moved)
        return moved

    async def set_expiry(self, session: Session, expires_at: datetime) -> Session:
        row = await only(
            self._connection,
            "UPDATE gatekeeper.session SET expires_at = %(at)s WHERE id = %(id)s RETURNING *",
            {"id": session.id, "at": expires_at},
        )
        changed = session_of(row)
        await self._changed([changed])
        return changed

    async def note_error(self, session: Session, error: Failure) -> Session:
        row = await only(
            self._connection,
            "UPDATE gatekeeper.session SET error_code = %(code)s, error_message = %(message)s,"
            " error_retryable = %(retryable)s WHERE id = %(id)s RETURNING *",
            {"id": session.id, **failure_values(error)},
        )
        return session_of(row)

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

    async def _changed(self, sessions: Sequence[Session]) -> None:
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
