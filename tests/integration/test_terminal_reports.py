"""What a runner tells, applied once each on the real store, and what it has lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fakes.launcher import FakeLauncher
from fakes.terminal_world import DANA, World, terminal_world
from gatekeeper.kernel.ids import TerminalId
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.model import Ended, Ending, Mode, Stage
from gatekeeper.terminals.ports import Runner
from gatekeeper.terminals.reporting import Answer, Attached, LeasePassed, Reached, Recorded
from waiting import eventually

S = SessionStatus
EXITED = Ended(
    ending=Ending.EXITED, exit_code=3, last_screen="bye", recording_head="a" * 64,
    recording_bytes=10, output_bytes=20,
)  # fmt: skip


@pytest.fixture
async def world(store_dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    async with terminal_world(store_dsn, tmp_path) as made:
        yield made


async def test_stages_and_attaches_are_told_once_though_reports_come_twice(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        world.launcher.tell(
            terminal.instance,
            Reached(stage=Stage.FIRST_BYTE, ago=timedelta(seconds=1)),
            Attached(subject="i#dana", mode=Mode.WRITE, protocol="gk.term.v1", signed="a.b.c"),
        )
        said = world.launcher.report()
        first = await world.reporting.take(said)
        world.launcher.tell(terminal.instance, LeasePassed(holder="i#dana", signed="d.e.f"))
        again = await world.reporting.take(world.launcher.report())  # nobody heard the first answer
        world.launcher.heard(again)
        world.launcher.tell(
            terminal.instance, Recorded(number=1, head="b" * 64, bytes=9, signed="g.h.i")
        )
        await world.report()
        await world.reporting.take(said)  # late, and long known

    found = await world.store.get(terminal.id)
    assert found is not None
    assert found.created_at <= found.stages[Stage.FIRST_BYTE]
    assert list(first.taken.values()) == [2]
    assert list(again.taken.values()) == [3]
    assert found.events_taken == 4
    assert (await world.events())[2:] == [
        "terminal.attached",
        "terminal.lease_passed",
        "terminal.recorded",
    ]
    told = (await world.evidence())[2]
    assert told["actor"] == {"kind": "runner", "key": "local"}
    assert told["data"]["told"]["subject"] == "i#dana"
    assert told["data"]["receipt"] == "a.b.c"


async def test_a_command_that_ends_is_cleaned_and_what_outlives_it_is_kept(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        world.launcher.finish(terminal.instance, replace(EXITED, last_screen="b\0ye"))
        await world.report(terminal)
        cleaned = await world.reach(terminal.id, S.CLEANED)
        screen = await world.driving.screen(DANA, terminal.id, "c")

    assert cleaned.ended == EXITED
    assert screen == (["bye"], terminal.size)
    assert (await world.events())[-2:] == ["terminal.ended", "terminal.cleaned"]
    assert (await world.evidence())[-2]["data"]["ended"]["exitCode"] == 3


async def test_an_end_that_is_told_before_the_launch_was_answered_is_not_lost(
    world: World,
) -> None:
    world.launcher.gate = asyncio.Event()
    async with world.working():
        terminal = await world.create()

        async def started() -> bool:
            return bool(world.launcher.live)

        assert await eventually(started)
        world.launcher.finish(terminal.instance, EXITED)
        await world.report(terminal)
        world.launcher.gate.set()
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert cleaned.ended == EXITED
    assert await world.events() == [
        "terminal.created",
        "terminal.ready",
        "terminal.ended",
        "terminal.cleaned",
    ]


async def test_what_died_with_its_runner_is_lost_and_cleaned(world: World) -> None:
    async with world.working():
        terminal, other = await world.ready(), await world.ready()
        world.launcher.die()
        await world.report()
        cleaned = [await world.reach(t.id, S.CLEANED) for t in (terminal, other)]

    assert {c.ended.ending for c in cleaned if c.ended} == {Ending.RUNNER_LOST}
    assert (await world.events(terminal))[-2:] == ["terminal.ended", "terminal.cleaned"]


async def test_a_report_that_is_older_than_a_terminal_does_not_end_it(world: World) -> None:
    async with world.working():
        old = world.launcher.report()
        terminal = await world.ready()
        await world.reporting.take(old)
        world.launcher.reachable = False
        await world.reporting.take(old)  # nobody can be asked: nothing is known

    found = await world.store.get(terminal.id)
    assert found is not None
    assert found.status is S.READY


async def test_what_nobody_knows_or_is_over_is_to_be_ended(world: World) -> None:
    async with world.working():
        terminal, over = await world.ready(), await world.ready()
        await world.service.stop(DANA, over.id, "c")
        await world.reach(over.id, S.CLEANED)
        (kept,) = world.launcher.report().terminals
        stranger = replace(kept, terminal=TerminalId("trm_" + "z" * 20), instance="z" * 20)
        earlier = replace(kept, instance="y" * 20)
        back = replace(kept, terminal=over.id, instance=over.instance, first=5, events=(EXITED,))
        said = replace(world.launcher.report(), terminals=(kept, stranger, earlier, back))
        answer = await world.reporting.take(said)

    assert set(answer.end) == {"z" * 20, "y" * 20, over.instance}
    assert answer.taken == {over.instance: 5}
    assert (await world.events(over))[-1] == "terminal.cleaned"
    assert (await world.store.get(terminal.id)) == terminal


async def test_a_runner_is_not_heard_on_the_terminals_of_another(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        world.launcher.tell(terminal.instance, EXITED)
        said = world.launcher.report()
        other = replace(
            said, runner=Runner(name="other", boot="b" * 20, sandbox="none", capacity=1)
        )
        answer = await world.reporting.take(other)

    assert answer.end == (terminal.instance,)
    found = await world.store.get(terminal.id)
    assert found is not None
    assert (found.status, found.events_taken) == (S.READY, 0)


async def test_the_tier_that_holds_new_terminals_is_told(world: World) -> None:
    assert await world.service.sandbox() is None
    await world.report()
    assert await world.service.sandbox() == "none"


def test_the_fake_forgets_what_was_taken() -> None:
    fake = FakeLauncher()
    fake.tell("x", Reached(stage=Stage.STARTED, ago=timedelta()), EXITED)
    fake.heard(Answer(taken={"x": 1}))

    assert fake.told["x"] == [EXITED]
