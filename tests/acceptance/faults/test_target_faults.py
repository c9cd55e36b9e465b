"""A target that is away, has no connection to give, or no room on its disk."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from acceptance.faults.processes import Role
from acceptance.faults.stacks import (
    PreparedTarget,
    Stack,
    eventually,
    fresh_store,
    prepared_target,
    rows,
    running,
)
from gatekeeper.databases.adapters.postgresql import helpers
from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.platform.postgres.embedded import EmbeddedServer

ENDED = ["session.created", "session.ready", "session.expired", "session.cleaned"]


@pytest.fixture
def store(server_18: EmbeddedServer, store_databases: psycopg.Connection) -> Iterator[str]:
    with fresh_store(store_databases, server_18) as dsn:
        yield dsn


@asynccontextmanager
async def target_of(
    folder: Path, kind: type[EmbeddedServer] = EmbeddedServer, **settings: str
) -> AsyncIterator[PreparedTarget]:
    prepared = await prepared_target(folder, kind, **settings)
    try:
        yield prepared
    finally:
        await prepared.server.stop()


async def assert_ended_well(stack: Stack, session: str, tolerated: str) -> None:
    await stack.reach(session)
    told = await stack.events(session)
    assert [kind for kind in told if kind != tolerated] == ENDED
    assert await stack.target.rows(
        "SELECT count(*) FROM pg_roles WHERE rolname ~ '^gk_[a-z2-7]{20}$'"
    ) == [(0,)]
    assert await stack.target.rows("SELECT count(*) FROM gk.login WHERE ended_at IS NULL") == [(0,)]
    await stack.assert_chain_is_whole()


async def failure(stack: Stack, kind: str) -> tuple[Any, ...]:
    """Wait for a job of this kind to have failed, and return how."""

    async def failed() -> Any:
        return await rows(
            stack.store,
            "SELECT error_code, error_message FROM gatekeeper.job"
            " WHERE kind = %s AND error_code IS NOT NULL",
            kind,
        )

    (how,) = await eventually(failed, f"a job {kind!r} fails")
    return tuple(how)


async def test_a_target_that_is_away_when_a_session_expires_is_cleaned_once_it_is_back(
    store: str, tmp_path: Path
) -> None:
    async with target_of(tmp_path) as target, running(tmp_path, store, target) as stack:
        login = await stack.create(ttl="2s")
        async with await psycopg.AsyncConnection.connect(login.dsn) as holder:
            await target.server.stop()
            await stack.reach(login.session, "expired")
            code, _ = await failure(stack, "end")
            assert code == "TARGET_UNREACHABLE"
            await target.server.start()

            await assert_ended_well(stack, login.session, "session.cleanup_failed")
            with pytest.raises(psycopg.OperationalError):
                await holder.execute("SELECT 1")
        events = await stack.events(login.session)
        assert events.count("session.cleanup_failed") == 1


def impatient(_role: Role) -> None:
    """Have an agent say sooner that a target has no connection to give."""
    helpers.WAIT_SECONDS = 1.0  # type: ignore[misc]


async def test_a_target_without_a_free_connection_is_asked_again_until_it_has_one(
    store: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as closing:
        target = await closing.enter_async_context(target_of(tmp_path, max_connections="12"))
        stack = await closing.enter_async_context(
            running(tmp_path, store, target, prepare=[impatient])
        )
        held = await all_connections(target)
        creating = asyncio.create_task(stack.create(ttl="2s"))
        assert await failure(stack, "issue") == (
            "TARGET_UNREACHABLE",
            "the target has no connection to give",
        )
        await close(held)
        login = await creating

        await assert_ended_well(stack, login.session, "session.cleanup_failed")


async def all_connections(target: PreparedTarget) -> list[psycopg.AsyncConnection]:
    held = []
    with pytest.raises(psycopg.OperationalError) as refused:
        while True:
            held.append(await psycopg.AsyncConnection.connect(target.server.dsn("shop")))
    assert "too many clients" in str(refused.value)
    return held


async def close(held: Sequence[psycopg.AsyncConnection]) -> None:
    for connection in held:
        await connection.close()


class OnATinyDisk(EmbeddedServer):
    """A server in a mount namespace of its own, where one folder is a disk of 1 MiB."""

    def _command(self) -> list[Path | str]:
        tiny = self.data.parent / "tiny"
        tiny.mkdir(exist_ok=True)
        ids = [f"--map-user={os.geteuid() or 65534}", f"--map-group={os.getegid() or 65534}"]
        mount = f'mount -t tmpfs -o size=1m,mode=700 tmpfs "{tiny}"'
        return [
            "unshare", "--user", "--mount", *ids, "--keep-caps", "sh", "-c",
            f'{mount} && exec setpriv --pdeathsig INT --ambient-caps=-all "$@"', "sh",
            *super()._command(),
        ]  # fmt: skip


async def test_a_target_without_room_on_its_disk_is_asked_again_until_it_has_some(
    store: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as closing:
        try:
            target = await closing.enter_async_context(target_of(tmp_path, OnATinyDisk))
        except UnavailableError as error:
            pytest.skip(f"no mount namespace here: {error.detail.splitlines()[0]}")
        stack = await closing.enter_async_context(running(tmp_path, store, target))
        await fill_disk(target, tmp_path / "tiny")
        creating = asyncio.create_task(stack.create(ttl="2s"))
        assert await failure(stack, "issue") == (
            "TARGET_UNREACHABLE",
            "the target is out of resources (53100)",
        )
        assert await target.rows("SELECT count(*) FROM gk.login") == [(0,)]
        await target.rows("DROP TABLE filler")
        login = await creating

        await assert_ended_well(stack, login.session, "session.cleanup_failed")


async def fill_disk(target: PreparedTarget, tiny: Path) -> None:
    """Put the registry of logins on the tiny disk, and fill the rest of it."""
    await target.rows(f"CREATE TABLESPACE tiny LOCATION '{tiny}'")
    await target.rows("ALTER TABLE gk.login SET TABLESPACE tiny")
    await target.rows("CREATE TABLE filler (what text) TABLESPACE tiny")
    with pytest.raises(psycopg.errors.DiskFull):
        while True:
            await target.rows(
                "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 20)"
            )
