"""The `DatabaseProvider` port on PostgreSQL, over the helpers in schema `gk`.

What may be done is checked by the helpers, in the database; this adapter calls them
in the right order and believes nothing it has not read back.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from gatekeeper.databases.adapters.postgresql.doctor import examine
from gatekeeper.databases.adapters.postgresql.translate import translated
from gatekeeper.databases.errors import TargetBusyError
from gatekeeper.databases.model import (
    Check,
    CreateUser,
    ManagedUser,
    ObjectPolicy,
    OwnedObjects,
    UserCreated,
    UserRevoked,
)
from gatekeeper.kernel.ids import RoleName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime, timedelta

    from gatekeeper.kernel.secret import Secret

CONNECT_SECONDS: Final = 5
WAIT_SECONDS: Final = 10.0
STATEMENT_SECONDS: Final = 20
ISSUE_CONNECTIONS: Final = 8
CLEANUP_CONNECTIONS: Final = 8
"""Two pools: however many logins end at once, none of their connections is for issuing."""

BACKENDS_SECONDS: Final = 10.0
"""How long to wait for told backends to be gone before the job is tried again."""
POLL_SECONDS: Final = 0.003
SLOWEST_POLL_SECONDS: Final = 0.05
BUSY_TRIES: Final = 4

T = TypeVar("T")
Row = dict[str, Any]


class PostgreSQLProvider:
    """One target, reached as `gk_agent`, which can call the helpers and nothing else."""

    def __init__(self, dsn: Secret) -> None:
        self._dsn = dsn
        self._issue = _pool(dsn, "gk-agent-issue", ISSUE_CONNECTIONS)
        self._cleanup = _pool(dsn, "gk-agent-cleanup", CLEANUP_CONNECTIONS)
        self._opening = asyncio.Lock()
        self._opened = False

    async def create_ephemeral_user(self, request: CreateUser) -> UserCreated:
        row = await self._again(
            lambda: self._row(
                self._issue,
                "SELECT * FROM gk.create_login(%s, %s, %s, %s)",
                request.username,
                request.verifier,
                request.role,
                request.ttl,
            )
        )
        return UserCreated(username=request.username, **row)

    async def revoke_user(self, username: RoleName, objects: ObjectPolicy) -> UserRevoked:
        existed = await self._again(lambda: self._disable(username))
        ended, left, cut_at = await self._end_backends(username)
        owned: tuple[OwnedObjects, ...] = ()
        if not left:
            owned = await self._release_objects(username, objects)
            await self._again(
                lambda: self._row(self._cleanup, "SELECT gk.drop_login(%s)", username)
            )
        proof = await self._row(
            self._cleanup,
            "SELECT gk.remains(%s) AS remains, clock_timestamp() AS verified_at",
            username,
        )
        return UserRevoked(
            username=username,
            existed=existed,
            gone=not proof["remains"],
            backends_ended=ended,
            access_cut_at=cut_at,
            verified_at=proof["verified_at"],
            owned=owned,
            left=tuple(proof["remains"]),
        )

    async def extend_user(self, username: RoleName, ttl: timedelta) -> UserCreated:
        row = await self._again(
            lambda: self._row(self._issue, "SELECT * FROM gk.extend_login(%s, %s)", username, ttl)
        )
        return UserCreated(username=username, already_existed=True, **row)

    async def list_managed_users(self) -> tuple[ManagedUser, ...]:
        with translated():
            async with self._connection(self._cleanup) as connection:
                cursor = connection.cursor(row_factory=dict_row)
                await cursor.execute("SELECT * FROM gk.list_logins() ORDER BY username")
                return tuple(_managed(row) for row in await cursor.fetchall())

    async def doctor(self) -> tuple[Check, ...]:
        with translated():
            async with self._connection(self._cleanup) as connection:
                return await examine(connection)

    async def health(self) -> None:
        await self._row(self._issue, "SELECT 1 AS one")

    async def close(self) -> None:
        if self._opened:
            await self._issue.close()
            await self._cleanup.close()

    async def _disable(self, username: RoleName) -> bool:
        row = await self._row(self._cleanup, "SELECT gk.disable_login(%s) AS existed", username)
        return bool(row["existed"])

    async def _end_backends(self, username: RoleName) -> tuple[int, int, datetime]:
        """End backends until none is seen; return how many there were, are, and when it was.

        The login is off and that is committed, so no new one can come but a log-in that
        was already under way: it is met by the next look, or shows in the final proof.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BACKENDS_SECONDS
        most, pause = 0, POLL_SECONDS
        while True:
            row = await self._row(self._cleanup, "SELECT * FROM gk.end_backends(%s)", username)
            most = max(most, row["remaining"])
            if not row["remaining"] or loop.time() > deadline:
                return most, row["remaining"], row["target_now"]
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, SLOWEST_POLL_SECONDS)

    async def _release_objects(
        self, username: RoleName, objects: ObjectPolicy
    ) -> tuple[OwnedObjects, ...]:
        """Handle what the login owns, in every database where the catalogue names something."""
        databases = await self._column("SELECT gk.databases_of(%s)", username)
        if not databases:
            return ()
        shard = await self._row(self._cleanup, "SELECT gk.shard_of(%s) AS shard", username)
        released = [
            OwnedObjects(
                database=database,
                objects=await self._release_in(database, username, objects, shard["shard"]),
            )
            for database in databases
        ]
        return tuple(found for found in released if found.objects)

    async def _release_in(
        self, database: str, username: RoleName, objects: ObjectPolicy, shard: int
    ) -> tuple[str, ...]:
        helper = psycopg.sql.Identifier("gk", f"release_owned_{shard:02}")
        query = psycopg.sql.SQL("SELECT {}(%s, %s)").format(helper)
        with translated():
            async with await psycopg.AsyncConnection.connect(
                make_conninfo(self._dsn.reveal(), dbname=database),
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
            ) as connection:
                cursor = await connection.execute(query, (username, objects.value))
                row = await cursor.fetchone()
        return tuple(row[0]) if row is not None else ()

    async def _row(self, pool: AsyncConnectionPool, query: LiteralString, *values: object) -> Row:
        with translated():
            async with self._connection(pool) as connection:
                cursor = connection.cursor(row_factory=dict_row)
                await cursor.execute(query, values)
                return await cursor.fetchone() or {}

    async def _column(self, query: LiteralString, *values: object) -> list[str]:
        with translated():
            async with self._connection(self._cleanup) as connection:
                cursor = await connection.execute(query, values)
                return [row[0] for row in await cursor.fetchall()]

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call again when another transaction was in the way; the helpers make that safe."""
        for tries in range(1, BUSY_TRIES):
            try:
                return await call()
            except TargetBusyError:
                await asyncio.sleep(POLL_SECONDS * 4**tries)
        return await call()

    @asynccontextmanager
    async def _connection(
        self, pool: AsyncConnectionPool
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        if not self._opened:
            async with self._opening:
                if not self._opened:
                    await self._issue.open()
                    await self._cleanup.open()
                    self._opened = True
        async with pool.connection() as connection:
            yield connection


def _pool(dsn: Secret, name: str, most: int) -> AsyncConnectionPool:
    return AsyncConnectionPool(
        dsn.reveal(),
        min_size=1,
        max_size=most,
        timeout=WAIT_SECONDS,
        open=False,
        name=name,
        check=AsyncConnectionPool.check_connection,
        kwargs={
            "autocommit": True,
            "application_name": name,
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_SECONDS}s",
        },
    )


def _managed(row: Row) -> ManagedUser:
    ends = row["expires_at"]
    return ManagedUser(
        username=RoleName(row["username"]),
        can_login=row["can_login"],
        expires_at=ends,
        backends=row["backends"],
        packs=frozenset(row["packs"]),
        drift=tuple(row["drift"]),
    )
