"""Background tasks: a name for each, and nobody ends unnoticed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog

from gatekeeper.platform.tasks import Supervisor, run_together, supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import EventDict


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise LookupError


async def at_once() -> None:
    return


async def test_a_task_that_fails_is_told_and_logged_by_name(logged: list[EventDict]) -> None:
    failed: list[str] = []
    async with run_together({"good": for_ever(), "bad": fail()}, failed=failed.append):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert failed == ["bad"]
    assert [(entry["event"], entry["task"]) for entry in logged] == [("task failed", "bad")]


async def test_a_task_that_just_ends_is_told_too(logged: list[EventDict]) -> None:
    failed: list[str] = []
    async with run_together({"short": at_once()}, failed=failed.append):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert failed == ["short"]
    assert [entry["event"] for entry in logged] == ["task ended early"]


async def test_tasks_that_stop_when_told_are_no_failure(logged: list[EventDict]) -> None:
    failed: list[str] = []
    owner = Supervisor(failed=failed.append)
    owner.start("one", for_ever())
    owner.start("two", for_ever())
    await asyncio.sleep(0)
    assert await owner.stop() == ()
    assert (failed, logged) == ([], [])


async def test_stop_names_the_task_that_is_stuck(logged: list[EventDict]) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    owner = Supervisor(failed=lambda _name: None)
    owner.start("stubborn", stubborn())
    owner.start("good", for_ever())
    await asyncio.sleep(0)
    assert await owner.stop(0.05) == ("stubborn",)
    assert logged[-1]["tasks"] == ("stubborn",)
    release.set()
    assert await owner.stop(1) == ()


async def test_nothing_is_started_while_the_others_are_stopped() -> None:
    owner = Supervisor(failed=lambda _name: None)
    await owner.stop()
    with pytest.raises(RuntimeError, match="'late'"):
        owner.start("late", for_ever())


async def test_a_task_that_may_run_again_does_with_longer_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.001)
    runs, third, failed = 0, asyncio.Event(), list[str]()

    async def flaky() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            await for_ever()
        if runs == 1:
            raise LookupError

    owner = Supervisor(failed=failed.append)
    owner.start_again("flaky", flaky)
    async with asyncio.timeout(30):
        await third.wait()
    assert await owner.stop() == ()
    assert (runs, failed) == (3, [])


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1), (4, 4), (9, 30), (999, 30)])
def test_pauses_double_up_to_a_ceiling(failures: int, seconds: float) -> None:
    assert supervisor.pause(failures) == seconds
