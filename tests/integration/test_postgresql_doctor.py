"""The doctor names what was broken, and the statement it prints mends that, and only that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest
from test_postgresql_provider import Target, target

from gatekeeper.bootstrap.target import Setup, bootstrap_target, prepare_sample_target
from gatekeeper.databases.adapters.postgresql.checks import BOOTSTRAP
from gatekeeper.databases.adapters.postgresql.doctor import examine
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.model import Check, CheckStatus
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from servers import SETTINGS, binaries

__all__ = ["target"]

OK = CheckStatus.OK
SETUP = Setup(databases=("shop", "postgres"), owners=("postgres",))
OURS = ("database shop", "database postgres", "database template1")

BROKEN = [
    ("helper gk.remains(text[])", "GRANT EXECUTE ON FUNCTION gk.remains(text[]) TO PUBLIC"),
    ("helper gk.remains(text[])", "GRANT EXECUTE ON FUNCTION gk.remains(text[]) TO app_read"),
    ("helper gk.remains(text[])", "ALTER FUNCTION gk.remains(text[]) RESET search_path"),
    ("helper gk.remains(text[])", "ALTER FUNCTION gk.remains(text[]) SET search_path = public"),
    ("helper gk.shard_of(text)", "REVOKE EXECUTE ON FUNCTION gk.shard_of(text) FROM gk_agent"),
    ("helper gk.shard_of", "DROP FUNCTION gk.shard_of(text)"),
    ("helper gk.forget_ended(interval)", "ALTER FUNCTION gk.forget_ended(interval) OWNER TO postgres"),
    (
        "helper gk.drop_role_07(text)",
        "CREATE OR REPLACE FUNCTION gk.drop_role_07(p_name text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT'",
    ),
    ("schema", "GRANT USAGE ON SCHEMA gk TO PUBLIC"),
    ("end backends", "REVOKE pg_signal_backend FROM gk_registry"),
    ("see backends", "REVOKE pg_read_all_stats FROM gk_registry"),
    ("notice changed passwords", "REVOKE SELECT (oid, rolname, rolpassword) ON pg_authid FROM gk_registry"),
    ("agent", "ALTER ROLE gk_agent CREATEROLE"),
    ("membership gk_agent", "GRANT app_admin TO gk_agent"),
    ("membership app_read", "GRANT pg_read_server_files TO app_read"),
    ("owner gk_owner_03", "ALTER ROLE gk_owner_03 NOCREATEROLE"),
    ("pack app_read", "ALTER ROLE app_read CREATEDB"),
    ("database shop", "GRANT TEMP ON DATABASE shop TO PUBLIC"),
    ("database postgres", "GRANT CONNECT ON DATABASE postgres TO PUBLIC"),
    ("public schema", "GRANT CREATE ON SCHEMA public TO PUBLIC"),
]  # fmt: skip


async def findings(target: Target) -> list[Check]:
    """Return what is not well; other tests' databases on the same server are not ours.

    Nor is the clock: on a machine that has other things to do, the answer about it takes seconds.
    """
    return [
        check
        for check in await target.provider.doctor()
        if check.status is not OK
        and check.name != "clock"
        and (not check.name.startswith("database ") or check.name in OURS)
    ]


async def mend(target: Target, fix: str) -> None:
    """Do what the doctor says: its SQL as the administrator, and the command it names."""
    if not fix.startswith("gk "):
        for statement in fix.split(" -- ", maxsplit=1)[0].split(";"):
            await target.admin(statement or "SELECT")
    if fix.endswith(BOOTSTRAP):
        await bootstrap_target(Secret(target.server.dsn()), SETUP, apply=True)


async def test_everything_is_well_after_bootstrap(target: Target) -> None:
    assert await findings(target) == []
    assert len(await target.provider.doctor()) > 100


@pytest.mark.parametrize("target_server", ["18"], indirect=True)
@pytest.mark.parametrize(("name", "damage"), BROKEN)
async def test_what_is_broken_is_named_and_mended_by_its_statement(
    target: Target, name: str, damage: str
) -> None:
    await target.admin(damage)

    (found,) = await findings(target)
    assert found.name == name
    assert found.fix is not None
    await mend(target, found.fix)

    assert await findings(target) == []


@pytest.mark.parametrize("target_server", ["18"], indirect=True)
@pytest.mark.parametrize(
    ("name", "value"), [("password_encryption", "md5"), ("log_statement", "ddl")]
)
async def test_a_setting_that_is_careless_with_passwords_is_named(
    target: Target, name: str, value: str
) -> None:
    async with await psycopg.AsyncConnection.connect(
        target.server.dsn("shop"), options=f"-c {name}={value}"
    ) as connection:
        checks = await examine(connection, now=SystemClock().now())

    (found,) = [check for check in checks if check.name == name]
    assert found.status is CheckStatus.WARNING
    assert found.fix is not None
    await mend(target, found.fix)
    await target.admin(f"ALTER SYSTEM RESET {name}")


@pytest.mark.parametrize("target_server", ["16", "18"], indirect=True)
async def test_an_owner_that_may_not_give_a_pack_is_named(target: Target) -> None:
    await target.admin("REVOKE app_write FROM gk_owner_05")

    (found,) = await findings(target)
    assert found.name == "pack app_write for gk_owner_05"
    assert found.fix is not None
    await mend(target, found.fix)

    assert await findings(target) == []


@asynccontextmanager
async def agent(target: Target) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(target.agent_dsn.reveal()) as connection:
        yield connection


@pytest.mark.parametrize("target_server", ["18"], indirect=True)
@pytest.mark.parametrize("offset", [timedelta(minutes=10), timedelta(minutes=-10)])
async def test_a_clock_that_is_wrong_is_named(target: Target, offset: timedelta) -> None:
    async with agent(target) as connection:
        checks = await examine(connection, now=SystemClock().now() + offset)

    (clock,) = [check for check in checks if check.name == "clock"]
    assert clock.status is CheckStatus.WARNING
    assert f"{-offset.total_seconds():+.0f} s" in clock.detail


@pytest.mark.parametrize("target_server", ["18"], indirect=True)
async def test_a_pooler_before_the_server_is_named(target: Target) -> None:
    """A pooler greets with a process number of its own (BackendKeyData, protocol 3.0)."""
    relays: list[asyncio.Task[None]] = []

    def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.append(asyncio.create_task(_relay(target, reader, writer)))

    through = await asyncio.start_server(meet, "127.0.0.1", 0)
    port = through.sockets[0].getsockname()[1]
    async with through:
        provider = PostgreSQLProvider(Secret(f"{target.agent_dsn.reveal()} port={port}"))
        try:
            checks = await provider.doctor()
        finally:
            await provider.close()
    await asyncio.gather(*relays)

    (pooler,) = [check for check in checks if check.name == "pooler"]
    assert pooler.status is CheckStatus.WARNING


async def _relay(
    target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(target.server.dsn())
    server_reader, server_writer = await asyncio.open_connection(str(parts["host"]), parts["port"])

    async def there() -> None:
        while data := await reader.read(65536):
            server_writer.write(data)
        server_writer.close()

    async def back() -> None:
        while data := await server_reader.read(65536):
            at = data.find(b"K\x00\x00\x00")  # a key of the server's process: ours is another
            if at >= 0:
                data = data[: at + 5] + b"\x00\x00\x00\x07" + data[at + 9 :]
            writer.write(data)
        writer.close()

    await asyncio.gather(there(), back())


async def test_prepared_transactions_are_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = EmbeddedServer(
        tmp_path_factory.mktemp("prepared") / "data",
        binaries(18),
        settings={**SETTINGS, "max_prepared_transactions": "2"},
    )
    await server.start()
    try:
        provider = PostgreSQLProvider(await prepare_sample_target(Secret(server.dsn()), "shop"))
        checks = await provider.doctor()
        await provider.close()
    finally:
        await server.stop()

    (found,) = [check for check in checks if check.status is not OK]
    assert found.name == "prepared transactions"
    assert found.fix is not None
    assert "max_prepared_transactions = 0" in found.fix
