"""The pool on a real PostgreSQL: it heals, it translates, it quotes no secret."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from gatekeeper.kernel.errors import InputError, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.processes.listening import free_port
from servers import SETTINGS, binaries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def pool(store_dsn: str) -> AsyncIterator[Pool]:
    pool = Pool(Secret(store_dsn), name="gk-test", max_size=2)
    await pool.open()
    yield pool
    await pool.close()


async def test_connections_are_named_and_in_autocommit(pool: Pool) -> None:
    async with pool.connection() as connection:
        cursor = await connection.execute("SHOW application_name")
        assert await cursor.fetchone() == ("gk-test",)
        assert connection.autocommit


async def test_a_lost_connection_is_unavailable_and_then_heals(pool: Pool, store_dsn: str) -> None:
    async with pool.connection() as connection:
        pid = connection.info.backend_pid
    async with await psycopg.AsyncConnection.connect(store_dsn, autocommit=True) as admin:
        with pytest.raises(UnavailableError, match="AdminShutdown"):  # it is lost midway
            async with pool.connection() as connection:
                pid = connection.info.backend_pid
                await admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
                await connection.execute("SELECT 1")
        async with pool.connection() as connection:
            idle = connection.info.backend_pid
        await admin.execute("SELECT pg_terminate_backend(%s, 5000)", (idle,))

    async with pool.connection() as connection:
        assert connection.info.backend_pid not in {pid, idle}


@pytest.mark.slow
async def test_a_pool_is_back_as_soon_as_its_database_is(tmp_path: Path) -> None:
    """However long that was away: left alone, a pool's pauses grow with the time that it was."""
    server = EmbeddedServer(tmp_path / "data", binaries(18), port=free_port(), settings=SETTINGS)
    await server.start()
    pool = Pool(Secret(server.dsn()), name="gk-test", wait_seconds=0.5)
    await pool.open()
    await server.stop()
    began = time.monotonic()
    while time.monotonic() - began < 16:
        with pytest.raises(UnavailableError):
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
    async with server:
        began = time.monotonic()
        while time.monotonic() - began < 4:
            with contextlib.suppress(UnavailableError):
                async with pool.connection() as connection:
                    await connection.execute("SELECT 1")
                    break
        else:
            pytest.fail("it did not come back")
        await pool.close()


async def test_an_error_of_a_statement_is_let_through(pool: Pool) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with pool.connection() as connection:
            await connection.execute("SELECT * FROM no_such_table")


async def test_an_exhausted_pool_is_unavailable(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.connection(), pool.connection():
        monkeypatch.setattr(pool._pool, "timeout", 0.05)
        with pytest.raises(UnavailableError, match="PoolTimeout"):
            async with pool.connection():
                pass


async def test_an_unreadable_dsn_is_refused_and_not_quoted() -> None:
    with pytest.raises(InputError) as caught:
        Pool(Secret("hunter2"), name="gk-test")
    assert "hunter2" not in str(caught.value)
