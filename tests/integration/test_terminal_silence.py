"""A runner that is not heard any more: when that is its silence, and what it ends.

Time is moved in the store's rows.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from fakes.logins import FakeLogins
from fakes.terminal_world import World, terminal_world
from gatekeeper.bootstrap.housekeeping import Housekeeper
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.telemetry.metrics import Metrics
from gatekeeper.terminals.jobs.listening import ABSENCE
from gatekeeper.terminals.model import DatabaseWanted, Ending, Terminal
from gatekeeper.terminals.settings import SILENCE
from waiting import eventually

S = SessionStatus
READ = DatabaseWanted(target="pg", role="app_read")
SECOND = timedelta(seconds=1)


@pytest.fixture
def logins() -> FakeLogins:
    return FakeLogins()


@pytest.fixture
async def world(store_dsn: str, tmp_path: Path, logins: FakeLogins) -> AsyncIterator[World]:
    async with terminal_world(store_dsn, tmp_path, logins=logins) as made:
        yield made


async def heard(world: World, ago: timedelta, *, listening: timedelta = timedelta(hours=1)) -> None:
    """Have the runner's last report be so long ago, and somebody have listened for so long."""
    async with world.pool.connection() as connection:
        await connection.execute(
            "UPDATE gatekeeper.terminal_runner SET seen_at = clock_timestamp() - %s", (ago,)
        )
        await connection.execute(
            "UPDATE gatekeeper.terminal_runner_watch"
            " SET looked_at = clock_timestamp(), listening_since = clock_timestamp() - %s",
            (listening,),
        )


async def away(world: World, absence: timedelta) -> None:
    """Have nobody listened for a while: no control plane ran, or the store was away."""
    async with world.pool.connection() as connection:
        await connection.execute(
            "UPDATE gatekeeper.terminal_runner_watch SET looked_at = looked_at - %s", (absence,)
        )


async def status(world: World, terminal: Terminal) -> SessionStatus:
    found = await world.store.get(terminal.id)
    assert found is not None
    return found.status


async def test_what_a_silent_runner_held_ends_with_its_logins_and_is_proven_when_it_is_back(
    world: World, logins: FakeLogins
) -> None:
    async with world.working():
        with_login, plain = await world.ready(database=READ), await world.ready()
    await world.report()
    await world.look()
    await heard(world, SILENCE + SECOND)
    world.launcher.reachable = False
    await world.look()
    over = [await world.store.get(t.id) for t in (with_login, plain)]
    assert logins.ended == [with_login.database_session]  # it waits for no other job
    cut_off = world.launcher.report()
    async with world.working():

        async def tried() -> bool:
            return "terminal.cleanup_failed" in await world.events(plain)

        assert await eventually(tried)
        answer = await world.reporting.take(cut_off)  # it is heard before it can be asked
        assert await status(world, plain) is S.ENDED
        world.launcher.reachable = True
        cleaned = await world.reach(plain.id, S.CLEANED)

    assert {t.status for t in over if t} == {S.ENDED}
    assert {t.ended.ending for t in over if t and t.ended} == {Ending.RUNNER_LOST}
    assert set(answer.end) == {with_login.instance, plain.instance}
    assert cleaned.ended is not None
    assert cleaned.ended.ending is Ending.RUNNER_LOST
    ended = [e for e in await world.evidence() if e["kind"] == "terminal.ended"]
    assert [e["data"]["ended"]["ending"] for e in ended] == ["runner_lost"] * 2
    assert min(e["data"]["silentMs"] for e in ended) >= SILENCE / timedelta(milliseconds=1)


async def test_a_runner_that_was_heard_in_time_or_answers_when_asked_loses_nothing(
    world: World,
) -> None:
    async with world.working():
        terminal = await world.ready()
        await world.report()
        await world.look()
        await heard(world, SILENCE - 5 * SECOND)
        world.launcher.reachable = False
        await world.look()
        assert await status(world, terminal) is S.READY

        await heard(world, SILENCE + SECOND)
        world.launcher.reachable = True  # only its own way to us is broken
        await world.look()
        assert await status(world, terminal) is S.READY

        world.launcher.die()  # and so nobody tells of its next life
        await world.look()
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert cleaned.ended is not None
    assert cleaned.ended.ending is Ending.RUNNER_LOST


async def test_the_absence_of_whoever_would_have_heard_is_not_the_runners_silence(
    world: World,
) -> None:
    async with world.working():
        terminal = await world.ready()
        await world.report()
        world.launcher.reachable = False
        await heard(world, timedelta(days=1))
        await world.look()  # the first look ever
        await world.look()
        assert await status(world, terminal) is S.READY

        await heard(world, timedelta(days=1))
        await away(world, ABSENCE + SECOND)
        await world.look()  # back: from here on it counts
        await world.look()
        assert await status(world, terminal) is S.READY

        await heard(world, timedelta(days=1), listening=SILENCE + SECOND)
        await away(world, ABSENCE - 5 * SECOND)  # another control plane took the job over
        await world.look()
        assert await status(world, terminal) is S.ENDED


async def test_the_job_comes_back_and_ends_with_a_runner_that_was_taken_out(world: World) -> None:
    async def job() -> list[tuple[object, ...]]:
        return await world.rows(
            "SELECT state, due_at > clock_timestamp() FROM gatekeeper.job WHERE id = 'listen:local'"
        )

    async with world.working():
        terminal = await world.ready()
        await world.report()
        await world.listening().schedule()
        assert await job() == [("queued", False)]
        await world.look()
        assert await job() == [("queued", True)]

        launcher = world.launchers.pop("local")
        await world.look()
        await heard(world, SILENCE + SECOND)
        await world.look()
        assert await status(world, terminal) is S.ENDED
        assert await world.rows("SELECT name FROM gatekeeper.terminal_runner") == [("local",)]

        world.launchers["local"] = launcher
        await world.reach(terminal.id, S.CLEANED)
        world.launchers.pop("local")
        await world.look()

    assert await world.rows("SELECT name FROM gatekeeper.terminal_runner") == []
    assert [state for state, _due in await job()] == ["done"]


async def test_how_long_ago_a_runner_was_heard_is_a_metric(world: World) -> None:
    metrics = Metrics()
    keeper = Housekeeper(
        pool=world.pool, metrics=metrics, clock=SystemClock(), random=SystemRandom()
    )
    await world.report()
    await heard(world, timedelta(seconds=40))
    await keeper.refresh_metrics()

    age = metrics.registry.get_sample_value(
        "gatekeeper_runner_last_report_seconds", {"runner": "local"}
    )
    assert age is not None
    assert 40 <= age < 60
