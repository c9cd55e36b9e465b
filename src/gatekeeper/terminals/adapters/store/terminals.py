"""The `TerminalStore` port: what is asked outside of a transaction, and how one begins."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gatekeeper.kernel.ids import TerminalId
from gatekeeper.platform.postgres.buckets import take_token
from gatekeeper.platform.postgres.keys import bound_to_key
from gatekeeper.platform.postgres.rows import every, one, only
from gatekeeper.terminals.adapters.store import queries
from gatekeeper.terminals.adapters.store.rows import (
    KEYS_OF_TERMINALS,
    change_of,
    share_of,
    terminal_of,
)
from gatekeeper.terminals.adapters.store.unit import Unit
from gatekeeper.terminals.ports import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gatekeeper.platform.postgres.pool import Pool
    from gatekeeper.terminals.model import Share, Terminal, TerminalChange, TerminalFilter
    from gatekeeper.terminals.ports import TerminalUnit


class PostgresTerminalStore:
    """The `TerminalStore` port on the control plane's own database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TerminalUnit]:
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

    async def find_key(self, requester: str, key: str) -> tuple[str, TerminalId] | None:
        async with self._pool.connection() as connection:
            return await bound_to_key(connection, requester, KEYS_OF_TERMINALS + key, TerminalId)

    async def get(self, terminal: TerminalId) -> Terminal | None:
        async with self._pool.connection() as connection:
            row = await one(
                connection, "SELECT * FROM gatekeeper.terminal WHERE id = %(id)s", {"id": terminal}
            )
        return None if row is None else terminal_of(row)

    async def find(self, wanted: TerminalFilter) -> Sequence[Terminal]:
        before_at, before_id = wanted.before or (None, None)
        values = {
            "requester": wanted.requester,
            "statuses": sorted(wanted.statuses),
            "limit": wanted.limit,
            "before_at": before_at,
            "before_id": before_id,
        }
        async with self._pool.connection() as connection:
            return [terminal_of(row) for row in await every(connection, queries.FIND, values)]

    async def on_runner(self, runner: str) -> Sequence[Terminal]:
        async with self._pool.connection() as connection:
            rows = await every(
                connection,
                "SELECT * FROM gatekeeper.terminal WHERE runner = %(runner)s"
                " AND status NOT IN ('cleaned', 'denied') AND stages ? 'scheduled'",
                {"runner": runner},
            )
        return [terminal_of(row) for row in rows]

    async def queue_place(self, terminal: TerminalId) -> int | None:
        async with self._pool.connection() as connection:
            return await Unit(connection).queue_place(terminal)

    async def runner(self, name: str) -> Runner | None:
        async with self._pool.connection() as connection:
            row = await one(
                connection,
                "SELECT * FROM gatekeeper.terminal_runner WHERE name = %(name)s",
                {"name": name},
            )
        if row is None:
            return None
        return Runner(
            name=row["name"], boot=row["boot"], sandbox=row["sandbox"], capacity=row["capacity"]
        )

    async def find_share(self, secret_sha256: str) -> Share | None:
        async with self._pool.connection() as connection:
            row = await one(
                connection,
                "SELECT * FROM gatekeeper.terminal_share"
                " WHERE secret_sha256 = %(secret)s AND expires_at > clock_timestamp()",
                {"secret": secret_sha256},
            )
        return None if row is None else share_of(row)

    async def changes(
        self, after: tuple[int, int] | None, limit: int
    ) -> tuple[Sequence[TerminalChange], tuple[int, int]]:
        async with self._pool.connection() as connection:
            if after is None:
                row = await only(connection, queries.PRESENT, {})
                return (), (int(row["xid"]), 0)
            values = {"xid": str(after[0]), "seq": after[1], "limit": limit}
            found = [change_of(row) for row in await every(connection, queries.CHANGES, values)]
        return found, (found[-1].cursor if found else after)

    async def forget_used_tickets(self) -> int:
        async with self._pool.connection() as connection:
            return (await connection.execute(queries.FORGET_USED)).rowcount
