"""The use-cases of terminals on the real store, queue and evidence, with a runner in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.terminal_world import (
    DANA,
    EMIL,
    World,
    terminal_world,
    wanted,
)
from gatekeeper.kernel import policy
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.jobs import TryAgain
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.queue import jobs
from gatekeeper.terminals.adapters.store import LAUNCH, Claim
from gatekeeper.terminals.errors import RunnerRejectedError
from gatekeeper.terminals.jobs import launching
from gatekeeper.terminals.model import (
    Bundle,
    DatabaseWanted,
    Ended,
    Ending,
    Mode,
    Stage,
    Terminal,
)
from waiting import eventually

S = SessionStatus


@pytest.fixture
async def world(store_dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    async with terminal_world(store_dsn, tmp_path) as made:
        yield made


async def test_a_terminal_from_request_to_proof(world: World) -> None:
    async with world.working():
        terminal = await world.ready(command=("/bin/sh",), ttl=timedelta(minutes=5))
        given = await world.attaching.attach(
            DANA, terminal.id, Mode.WRITE, origin=None, correlation_id="c"
        )
        said = world.claims(given)
        used = [await world.claimed(said), await world.claimed(said)]
        await world.service.stop(DANA, terminal.id, "cor_stop")
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert terminal.expires_at == terminal.stages[Stage.SCHEDULED] + timedelta(minutes=5)
    assert terminal.sandbox == "none"
    assert used == ["ok", "used"]
    assert cleaned.ended is not None
    assert cleaned.ended.ending is Ending.REVOKED
    assert cleaned.ended.output_bytes == 7
    assert world.launcher.live == {}
    assert await world.events() == [
        "terminal.created",
        "terminal.ready",
        "terminal.ticket_issued",
        "terminal.revoked",
        "terminal.cleaned",
    ]


# -- asking for one --------------------------------------------------------------------


async def test_twenty_with_one_key_make_one_terminal(world: World) -> None:
    one = wanted(idempotency_key="k", body_sha256="same")
    async with world.working():
        made = await asyncio.gather(*(world.service.create(DANA, one) for _ in range(20)))
        terminals = {m.id for m in made if isinstance(m, Terminal)}
        await world.reach(next(iter(terminals)), S.READY)

    assert len(made) == 20
    assert len(terminals) == 1
    assert world.launcher.started == 1
    assert await world.events() == ["terminal.created", "terminal.ready"]


async def test_a_key_with_another_body_is_a_conflict_and_keys_belong_to_their_user(
    world: World,
) -> None:
    await world.create(idempotency_key="k", body_sha256="one")

    again = await world.service.create(DANA, wanted(idempotency_key="k", body_sha256="two"))
    others = await world.service.create(EMIL, wanted(idempotency_key="k", body_sha256="two"))

    assert isinstance(again, Refusal)
    assert again.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert isinstance(others, Terminal)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"profile": "shel"}, ErrorCode.NOT_FOUND, "'shel'"),
        ({"profile": "fixed", "command": ("/bin/sh",)}, ErrorCode.VALIDATION_ERROR, "its own"),
        (
            {
                "profile": "tool",
                "bundle": Bundle(url="https://h/x.zip", sha256=None, install=("sh",)),
            },
            ErrorCode.VALIDATION_ERROR,
            "its own",
        ),
        (
            {"profile": "fixed", "bundle": Bundle(url="https://h/x.zip", sha256=None)},
            ErrorCode.VALIDATION_ERROR,
            "bundle",
        ),
        ({"ttl": timedelta(hours=3)}, ErrorCode.VALIDATION_ERROR, "at most 2h"),
        ({"ttl": timedelta(minutes=90)}, ErrorCode.POLICY_DENIED, "at most 1h"),
        (
            {"database": DatabaseWanted(target="pg", role="app_read")},
            ErrorCode.VALIDATION_ERROR,
            "no database",
        ),
    ],
)
async def test_what_may_not_be_run_is_refused_with_the_reason(
    world: World, changes: dict[str, Any], code: ErrorCode, words: str
) -> None:
    refused = await world.service.create(DANA, wanted(**changes))

    assert isinstance(refused, Refusal)
    assert refused.code is code
    assert words in " ".join((refused.detail, *refused.reasons))
    denied = ["terminal.denied"] if code is ErrorCode.POLICY_DENIED else []
    assert await world.events() == denied


async def test_open_terminals_and_requests_are_limited(world: World) -> None:
    limits = policy.Limits(sessions_per_principal=1, requests_per_minute=3)
    world.policies.policy = replace(world.policies.policy, limits=limits)
    first = await world.create()

    second = await world.service.create(DANA, wanted())
    await world.service.stop(DANA, first.id, "c")
    await world.create()
    fourth = await world.service.create(DANA, wanted())

    assert isinstance(second, Refusal)
    assert second.code is ErrorCode.SESSION_LIMIT_EXCEEDED
    assert isinstance(fourth, Refusal)
    assert fourth.code is ErrorCode.RATE_LIMIT_EXCEEDED
    assert fourth.retry_after


async def test_a_full_queue_says_when_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatekeeper.terminals.service.terminals.MAX_QUEUED", 1)
    await world.create()

    refused = await world.service.create(EMIL, wanted())

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.QUEUE_FULL
    assert refused.retry_after
    assert await world.events() == ["terminal.created"]


async def test_evidence_has_neither_a_bundles_query_nor_the_prompt(world: World) -> None:
    bundle = Bundle(url="https://u:p@host/a.zip?signature=canary", sha256="0" * 64)
    await world.create(bundle=bundle, prompt="canary")

    (event,) = await world.evidence()

    assert event["data"]["bundle"] == {"from": "host/a.zip", "sha256": "0" * 64}
    assert "canary" not in json.dumps(event)


# -- places ----------------------------------------------------------------------------


async def test_places_are_given_in_a_fair_order_and_an_end_wakes_the_next(
    world: World,
) -> None:
    world.launcher.capacity = 1
    async with world.working():
        running = await world.ready()
        mine = [await world.create() for _ in range(2)]
        theirs = await world.create(EMIL)
        places = [await world.service.queue_place(t) for t in (*mine, theirs)]
        order = []
        for _ in range(3):
            began = asyncio.get_running_loop().time()
            await world.service.stop(DANA, running.id, "c")
            await world.service.stop(EMIL, running.id, "c")
            running = await eventually(lambda: ready_one(world))
            order.append(running.id)
            assert asyncio.get_running_loop().time() - began < 1.9, "nobody woke it"

    assert places == [1, 2, 0]
    assert order == [theirs.id, mine[0].id, mine[1].id]


async def ready_one(world: World) -> Terminal | None:
    rows = await world.rows("SELECT id FROM gatekeeper.terminal WHERE status = 'ready'")
    return await world.store.get(rows[0][0]) if rows else None


async def test_many_launches_at_once_never_take_more_places_than_there_are(
    world: World,
) -> None:
    world.launcher.capacity = 3
    async with world.working(workers=2):
        made = await asyncio.gather(*(world.create() for _ in range(9)))
        await eventually(lambda: has_started(world, 3))
        await asyncio.sleep(0.2)
        assert len(world.launcher.live) == world.launcher.started == 3
        assert world.launcher.crowded == 0
        for terminal in made:
            await world.service.stop(DANA, terminal.id, "c")
            await world.reach(terminal.id, S.CLEANED)

    assert world.launcher.live == {}


async def has_started(world: World, count: int) -> bool:
    return world.launcher.started >= count


async def test_one_that_never_had_a_place_is_cleaned_without_its_runner(world: World) -> None:
    world.launcher.capacity = 0
    terminal = await world.create()
    world.launcher.reachable = False
    await world.service.stop(DANA, terminal.id, "c")
    async with world.working():
        await world.reach(terminal.id, S.CLEANED)


# -- launching -------------------------------------------------------------------------


async def test_a_lost_answer_starts_no_second_one(world: World) -> None:
    world.launcher.lose_answers = 2
    async with world.working():
        terminal = await world.ready()

    assert world.launcher.started == 1
    assert terminal.error is None


ALL_OF_IT = Ended(
    ending=Ending.EXITED, exit_code=3, recording_head="a" * 64, recording_bytes=20, output_bytes=7
)


@pytest.mark.parametrize("told", ["before", "after", "before, and it comes too late"])
async def test_a_lost_answer_about_a_command_that_is_over_by_now_loses_nothing_of_it(
    world: World, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told how it ended before its launch is asked for again, or after."""
    world.launcher.lose_answers = 1
    terminal = await world.create()
    async with world.pool.connection() as connection:
        (job,) = await jobs.claim(connection, LAUNCH, free=1, share=1, busy={}, lease=30)
    again = await world.launching()(Claim(job))
    world.launcher.finish(terminal.instance, ALL_OF_IT)
    if told != "after":
        await world.report(terminal)
    if too_late := "too late" in told:
        monkeypatch.setattr(launching, "LAUNCH_DEADLINE", timedelta())
    await world.launching()(Claim(job))
    await world.report(terminal)
    ended = await world.store.get(terminal.id)

    assert isinstance(again, TryAgain)
    assert ended is not None
    assert (ended.status, ended.ended, ended.error) == (S.ENDED, ALL_OF_IT, None)
    assert world.launcher.started == 1
    ready = [] if too_late else ["terminal.ready"]  # which its runner signs, in its answer
    assert await world.events() == ["terminal.created", *ready, "terminal.ended"]


async def test_a_launch_that_is_killed_half_way_is_finished_by_another_worker(
    world: World,
) -> None:
    terminal = await world.create()
    world.launcher.gate = asyncio.Event()
    async with world.pool.connection() as connection:
        (job,) = await jobs.claim(connection, LAUNCH, free=1, share=1, busy={}, lease=0.5)
    first = asyncio.create_task(world.launching()(Claim(job)))
    await eventually(lambda: has_started(world, 1))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    world.launcher.gate = None
    async with world.working():
        await world.reach(terminal.id, S.READY)

    assert world.launcher.started == 1


async def test_a_refusal_fails_it_and_undoes_what_there_may_be(world: World) -> None:
    world.launcher.fail_next = [RunnerRejectedError("no bundles here")]
    async with world.working():
        terminal = await world.create()
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert cleaned.error is not None
    assert cleaned.error.message == "no bundles here"
    assert cleaned.ended is not None
    assert cleaned.ended.ending is Ending.LAUNCH_FAILED
    assert await world.events() == ["terminal.created", "terminal.failed", "terminal.cleaned"]


async def test_a_runner_that_stays_away_fails_it_with_that_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = "gatekeeper.terminals.jobs.launching.LAUNCH_DEADLINE"
    monkeypatch.setattr(deadline, timedelta(seconds=0.3))
    world.launcher.reachable = False
    async with world.working():
        terminal = await world.create()
        failed = await world.reach(terminal.id, S.FAILED)
        world.launcher.reachable = True
        await world.reach(terminal.id, S.CLEANED)

    assert failed.error is not None
    assert failed.error.code == ErrorCode.RUNNER_UNREACHABLE


async def test_one_that_is_stopped_while_it_starts_is_undone(world: World) -> None:
    world.launcher.gate = asyncio.Event()
    async with world.working():
        terminal = await world.create()
        await eventually(lambda: has_started(world, 1))
        first = await world.service.stop(DANA, terminal.id, "c")
        second = await world.service.stop(DANA, terminal.id, "c")
        await world.reach(terminal.id, S.CLEANED)
        world.launcher.gate.set()
        await asyncio.sleep(0.1)

    assert isinstance(first, Terminal)
    assert first == second
    assert world.launcher.live == {}
    assert await world.events() == ["terminal.created", "terminal.revoked", "terminal.cleaned"]


# -- ending ----------------------------------------------------------------------------


async def test_it_ends_at_its_time_by_the_stores_clock(world: World) -> None:
    async with world.working():
        terminal = await world.ready(ttl=timedelta(seconds=1))
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert cleaned.ended_at == terminal.expires_at
    assert cleaned.ended is not None
    assert cleaned.ended.ending is Ending.EXPIRED
    assert (await world.events())[-2:] == ["terminal.expired", "terminal.cleaned"]


async def test_what_cannot_be_proven_gone_is_never_called_cleaned(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        world.launcher.stuck.add(terminal.instance)
        await world.service.stop(DANA, terminal.id, "c")

        async def told() -> bool:
            return "terminal.cleanup_failed" in await world.events()

        assert await eventually(told)
        await asyncio.sleep(0.5)
        revoked = await world.store.get(terminal.id)
        world.launcher.stuck.clear()
        await world.reach(terminal.id, S.CLEANED)

    assert revoked is not None
    assert revoked.status is S.REVOKED
    assert revoked.error is not None
    assert "process 7" in revoked.error.message
    assert (await world.events()).count("terminal.cleanup_failed") == 1
