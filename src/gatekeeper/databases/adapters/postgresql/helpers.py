"""Calls of the helpers in schema `gk`, over a pool of the agent's own connections."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from gatekeeper.databases.adapters.postgresql.translate import translated
from gatekeeper.databases.errors import TargetBusyError
from gatekeeper.platform.postgres.pool import CONNECT_SECONDS, NETWORK, check_when_heard
from gatekeeper.platform.telemetry import traces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg.sql import Composed

    from gatekeeper.kernel.secret import Secret

WAIT_SECONDS: Final = 10.0
STATEMENT_SECONDS: Final = 20
BUSY_TRIES: Final = 4
BUSY_SECONDS: Final = 0.012
"""The first pause when another transaction was in the way; each later one is four times as long."""

Row = dict[str, Any]


class Helpers:
    """The helpers of one target. Every method raises only the errors of this plane."""

    def __init__(self, dsn: Secret, *, name: str, connections: int) -> None:
        self._dsn = dsn
        self._pool = AsyncConnectionPool(
            dsn.reveal(),
            min_size=1,
            max_size=connections,
            timeout=WAIT_SECONDS,
            open=False,
            name=name,
            check=check_when_heard,
            kwargs={
                "autocommit": True,
                "application_name": name,
                **NETWORK,
                "options": f"-c statement_timeout={STATEMENT_SECONDS}s",
            },
        )

    async def rows(self, query: LiteralString, *values: object) -> list[Row]:
        with translated(), traces.span(query, kind="client"):
            async with self.connection() as connection:
                cursor = connection.cursor(row_factory=dict_row)
                await cursor.execute(query, values)
                return await cursor.fetchall()

    async def row(self, query: LiteralString, *values: object) -> Row:
        found = await self.rows(query, *values)
        return found[0] if found else {}

    async def patiently(self, query: LiteralString, *values: object) -> list[Row]:
        """Call again when another transaction was in the way; the helpers make that safe."""
        for tries in range(BUSY_TRIES - 1):
            try:
                return await self.rows(query, *values)
            except TargetBusyError:
                await asyncio.sleep(BUSY_SECONDS * 4**tries)
        return await self.rows(query, *values)

    async def value_in(self, database: str, query: Composed, *values: object) -> Any:  # noqa: ANN401
        """Ask another database of the same server for one value."""
        with translated():
            async with await psycopg.AsyncConnection.connect(
                make_conninfo(self._dsn.reveal(), dbname=database),
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
            ) as connection:
                row = await (await connection.execute(query, values)).fetchone()
        return None if row is None else row[0]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        if self._pool.closed:
            await self._pool.open()
        async with self._pool.connection() as connection:
            yield connection

    async def close(self) -> None:
        await self._pool.close()
