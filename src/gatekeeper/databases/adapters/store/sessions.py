"""The `SessionStore` port: what is asked outside of a transaction, and how one begins."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from gatekeeper.databases.adapters.store.rows import change_of, session_of
from gatekeeper.databases.adapters.store.unit import Unit
from gatekeeper.kernel.ids import SessionId
from gatekeeper.platform.postgres.buckets import take_token
from gatekeeper.platform.postgres.keys import bound_to_key
from gatekeeper.platform.postgres.rows import every, one, only

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime, timedelta

    from gatekeeper.databases.model import Session, SessionChange, SessionFilter
    from gatekeeper.databases.ports import SessionUnit
    from gatekeeper.platform.postgres.pool import Pool

_PENDING: Final = """
SELECT s.*, read_at FROM (SELECT clock_timestamp() AS read_at OFFSET 0) AS clock
LEFT JOIN gatekeeper.session s ON s.id = ANY(%(ids)s) AND s.status = 'pending'
  AND s.created_at >= read_at - %(within)s::interval
"""

_FIND: Final = """
SELECT * FROM gatekeeper.session
WHERE (%(requester)s::text IS NULL OR requester = %(requester)s)
  AND (%(statuses)s::text[] = '{}' OR status = ANY(%(statuses)s))
  AND (%(target)s::text IS NULL OR target = %(target)s)
  AND (%(role)s::text IS NULL OR role = %(role)s)
  AND (%(before_at)s::timestamptz IS NULL
       OR (created_at, id) < (%(before_at)s, %(before_id)s::text))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
"""

_CHANGES: Final = """
SELECT * FROM gatekeeper.session_change
WHERE (xid, seq) > (%(xid)s::text::xid8, %(seq)s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, seq LIMIT %(limit)s
"""

_PRESENT: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 AS xid
"""


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
            unit = Unit(connection)
            yield unit
            tx.force_rollback = unit.abandoned

    async def take_token(self, requester: str, per_minute: int) -> float:
        async with self._pool.connection() as connection:
            return await take_token(connection, requester, per_minute)

    async def find_key(self, requester: str, key: str) -> tuple[str, SessionId] | None:
        async with self._pool.connection() as connection:
            return await bound_to_key(connection, requester, key, SessionId)

    async def get(self, session: SessionId) -> Session | None:
        async with self._pool.connection() as connection:
            row = await one(
                connection, "SELECT * FROM gatekeeper.session WHERE id = %(id)s", {"id": session}
            )
        return None if row is None else session_of(row)

    async def pending(
        self, sessions: Sequence[SessionId], within: timedelta
    ) -> tuple[Sequence[Session], datetime]:
        values = {"ids": list(sessions), "within": within}
        async with self._pool.connection() as connection:
            rows = await every(connection, _PENDING, values)
        return [session_of(row) for row in rows if row["id"] is not None], rows[0]["read_at"]

    async def find(self, wanted: SessionFilter) -> Sequence[Session]:
        before_at, before_id = wanted.before or (None, None)
        values = {
            "requester": wanted.requester,
            "statuses": sorted(wanted.statuses),
            "target": wanted.target,
            "role": wanted.role,
            "limit": wanted.limit,
            "before_at": before_at,
            "before_id": before_id,
        }
        async with self._pool.connection() as connection:
            return [session_of(row) for row in await every(connection, _FIND, values)]

    async def not_cleaned(self, target: str) -> Sequence[Session]:
        async with self._pool.connection() as connection:
            rows = await every(
                connection,
                "SELECT * FROM gatekeeper.session"
                " WHERE target = %(target)s AND status NOT IN ('cleaned', 'denied')",
                {"target": target},
            )
        return [session_of(row) for row in rows]

    async def changes(
        self, after: tuple[int, int] | None, limit: int
    ) -> tuple[Sequence[SessionChange], tuple[int, int]]:
        async with self._pool.connection() as connection:
            if after is None:
                row = await only(connection, _PRESENT, {})
                return (), (int(row["xid"]), 0)
            values = {"xid": str(after[0]), "seq": after[1], "limit": limit}
            found = [change_of(row) for row in await every(connection, _CHANGES, values)]
        return found, (found[-1].cursor if found else after)
