"""What the control planes lean on breaks: their store, their clock, one of themselves."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from acceptance.faults.crash_points import shorten_leases
from acceptance.faults.processes import Role
from acceptance.faults.stacks import (
    FAST,
    Login,
    PreparedTarget,
    Stack,
    eventually,
    fresh_store,
    rows,
    running,
)
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.processes.listening import free_port

CALLERS = 6
SESSIONS_EACH = 5


@pytest.fixture
def store(server_18: EmbeddedServer, store_databases: psycopg.Connection) -> Iterator[str]:
    with fresh_store(store_databases, server_18) as dsn:
        yield dsn


async def call_on(stack: Stack, caller: int, logins: list[Login]) -> None:
    for number in range(SESSIONS_EACH):
        login = await stack.create(key=f"{caller}-{number}")
        logins.append(login)


async def assert_all_end_once(stack: Stack, logins: list[Login]) -> None:
    assert len(logins) == CALLERS * SESSIONS_EACH
    assert await rows(stack.store, "SELECT count(*) FROM gatekeeper.session") == [(len(logins),)]
    for login in logins:
        await stack.revoke(login.session)
    for login in logins:
        await stack.reach(login.session)
        await stack.assert_gone(login)
        assert Counter(await stack.events(login.session)) == Counter(
            f"session.{what}" for what in ("created", "ready", "revoked", "cleaned")
        )
    await stack.assert_chain_is_whole()


async def test_a_store_that_is_restarted_and_killed_under_load_loses_nothing(
    target: PreparedTarget, tmp_path: Path
) -> None:
    server = EmbeddedServer(tmp_path / "store", find_binaries(), port=free_port(), settings=FAST)
    await server.start()
    try:
        await migrate(Secret(server.dsn()))
        async with running(tmp_path, server.dsn(), target, prepare=[shorten_leases]) as stack:
            logins: list[Login] = []
            callers = [asyncio.create_task(call_on(stack, n, logins)) for n in range(CALLERS)]

            async def has(made: int) -> bool:
                return len(logins) >= made

            await eventually(partial(has, 5), "sessions are made")
            await server.stop()
            await server.start()
            await eventually(partial(has, 15), "sessions are made again")
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await server.stop()
            await server.start()
            await asyncio.gather(*callers)

            assert {process.exit_code for process in stack.processes} == {None}
            assert {(p.status, p.type) for p in stack.problems} <= {
                (503, "urn:gatekeeper:problem:SERVICE_UNAVAILABLE")
            }
            await assert_all_end_once(stack, logins)
    finally:
        await server.stop()


async def test_one_of_two_control_planes_is_killed_under_load_and_the_other_goes_on(
    target: PreparedTarget, store: str, tmp_path: Path
) -> None:
    async with running(tmp_path, store, target, planes=2, prepare=[shorten_leases]) as stack:
        logins: list[Login] = []
        callers = [asyncio.create_task(call_on(stack, n, logins)) for n in range(CALLERS)]

        async def some() -> bool:
            return len(logins) >= CALLERS

        await eventually(some, "sessions are made")
        stack.planes.pop().kill()
        await asyncio.gather(*callers)

        assert stack.problems == []
        await assert_all_end_once(stack, logins)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_control_plane_whose_clock_is_wrong_ends_a_session_at_its_time(
    target: PreparedTarget, store: str, tmp_path: Path, hours: int
) -> None:
    async with running(tmp_path, store, target, prepare=[partial(set_clock, hours)]) as stack:
        login = await stack.create(ttl="3s")
        view = await stack.reach(login.session)
        await stack.assert_gone(login)

    assert view.expires_at is not None
    assert timedelta(seconds=3) <= view.expires_at - view.created_at < timedelta(minutes=2)
    assert view.ended_at == view.expires_at


def set_clock(hours: int, role: Role) -> None:
    """Move the clock of a control plane's machine, as far as its process can see."""
    if role == "agent":
        return
    right, wrong = time.time, timedelta(hours=hours)  # noqa: TID251

    def now(_self: SystemClock) -> datetime:
        return datetime.now(UTC) + wrong  # noqa: TID251

    time.time = lambda: right() + wrong.total_seconds()  # noqa: TID251
    SystemClock.now = now  # type: ignore[assignment, method-assign]
