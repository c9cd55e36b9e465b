"""Migrations on a real PostgreSQL: once each, in order, by one process at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from gatekeeper.kernel.errors import InputError, IntegrityError, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.migrations import Migration, migrate, pending, shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatekeeper.platform.postgres.embedded import EmbeddedServer

ONE = Migration("0001_pre_one", b"CREATE TABLE one (n int); INSERT INTO one VALUES (1)")
TWO = Migration("0002_post_two", b"CREATE TABLE two (n int)")
BROKEN = Migration("0002_pre_broken", b"CREATE TABLE half (n int); SELECT 1/0")


@pytest.fixture
def dsn(target_server: EmbeddedServer) -> Iterator[Secret]:
    name = sql.Identifier("migrated")
    with psycopg.connect(target_server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield Secret(target_server.dsn("migrated"))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def tables(dsn: Secret) -> set[str]:
    with psycopg.connect(dsn.reveal()) as connection:
        rows = connection.execute("SELECT relname FROM pg_stat_user_tables").fetchall()
    return {name for (name,) in rows}


async def test_what_is_shipped_is_applied_once(dsn: Secret) -> None:
    names = tuple(migration.name for migration in shipped())

    assert await pending(dsn) == names
    assert tables(dsn) == set()
    assert await migrate(dsn) == names
    assert await migrate(dsn) == ()
    assert await pending(dsn) == ()


async def test_only_what_is_missing_is_applied(dsn: Secret) -> None:
    await migrate(dsn, migrations=(ONE,))

    assert await migrate(dsn, migrations=(ONE, TWO)) == ("0002_post_two",)
    assert tables(dsn) == {"migration", "one", "two"}


async def test_two_processes_at_once_apply_each_once(dsn: Secret) -> None:
    slow = Migration("0001_pre_slow", b"SELECT pg_sleep(0.1); CREATE TABLE one (n int)")

    results = await asyncio.gather(*(migrate(dsn, migrations=(slow, TWO)) for _ in range(5)))

    assert sorted(results) == [(), (), (), (), ("0001_pre_slow", "0002_post_two")]


async def test_a_migration_that_fails_leaves_nothing_of_itself(dsn: Secret) -> None:
    with pytest.raises(IntegrityError, match="0002_pre_broken failed: 22012 division by zero"):
        await migrate(dsn, migrations=(ONE, BROKEN))

    assert tables(dsn) == {"migration", "one"}
    assert await migrate(dsn, migrations=(ONE, TWO)) == ("0002_post_two",)


async def test_a_changed_file_is_refused(dsn: Secret) -> None:
    await migrate(dsn, migrations=(ONE,))

    with pytest.raises(IntegrityError, match="0001_pre_one was applied with other contents"):
        await migrate(dsn, migrations=(Migration(ONE.name, ONE.sql + b" "), TWO))
    assert tables(dsn) == {"migration", "one"}


async def test_a_database_of_a_newer_release_is_refused(dsn: Secret) -> None:
    await migrate(dsn, migrations=(ONE, TWO))

    with pytest.raises(IntegrityError, match="0002_post_two, which this release does not know"):
        await migrate(dsn, migrations=(ONE,))


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(UnavailableError):
        await migrate(Secret("host=127.0.0.1 port=1 dbname=x"))


async def test_an_unreadable_dsn_is_not_quoted() -> None:
    with pytest.raises(InputError) as caught:
        await migrate(Secret("hunter2"))
    assert "hunter2" not in str(caught.value)
