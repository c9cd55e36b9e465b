"""What programs do with a terminal, and what happens with its database login."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.launcher import VERIFIER
from fakes.logins import FakeLogins
from fakes.terminal_world import DANA, EMIL, OLGA, World, terminal_world, wanted
from gatekeeper.kernel.errors import ErrorCode, Refusal, UnavailableError
from gatekeeper.kernel.ids import TerminalId
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.model import DatabaseWanted, Terminal
from gatekeeper.terminals.ports import Gone
from gatekeeper.terminals.service.driving import MOST_WAITS
from waiting import eventually

S = SessionStatus
READ = DatabaseWanted(target="pg", role="app_read")


@pytest.fixture
def logins() -> FakeLogins:
    return FakeLogins()


@pytest.fixture
async def world(store_dsn: str, tmp_path: Path, logins: FakeLogins) -> AsyncIterator[World]:
    async with terminal_world(store_dsn, tmp_path, logins=logins) as made:
        yield made


# -- programs --------------------------------------------------------------------------


async def test_a_program_types_waits_and_looks_and_so_does_an_operator(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        await world.driving.send_input(DANA, terminal.id, "canary\n", "cor_in")
        seen = await world.driving.wait_for_text(OLGA, terminal.id, "canary", 5, "cor_wait")
        unseen = await world.driving.wait_for_text(DANA, terminal.id, "nothing", 0, "c")
        lines, size = await answer(world.driving.screen(OLGA, terminal.id, "cor_look"))
        stranger = await world.driving.screen(EMIL, terminal.id, "c")

    assert (seen, unseen) == (True, False)
    assert list(lines) == ["canary"]
    assert size == terminal.size
    assert isinstance(stranger, Refusal)
    assert stranger.code is ErrorCode.NOT_FOUND
    *_, typed, waited, looked = await world.evidence()
    assert (typed["kind"], typed["correlationId"]) == ("terminal.input_sent", "cor_in")
    assert typed["data"]["chars"] == 7
    assert "canary" not in json.dumps(typed)
    assert [
        (one["kind"], one["actor"]["key"], one["correlationId"]) for one in (waited, looked)
    ] == [
        ("terminal.screen_read", OLGA.key, "cor_wait"),
        ("terminal.screen_read", OLGA.key, "cor_look"),
    ]


async def test_an_operator_does_not_type_unseen_in_the_terminal_of_another(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        refused = await world.driving.send_input(OLGA, terminal.id, "canary\n", "cor_in")
        lines, _ = await answer(world.driving.screen(DANA, terminal.id, "c"))

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.POLICY_DENIED
    assert list(lines) == []


async def test_a_caller_has_few_waits_under_way_at_a_time(world: World) -> None:
    async with world.working():
        terminal = await world.ready()

        async def wait(who: Any, seconds: float) -> Any:
            return await world.driving.wait_for_text(who, terminal.id, "nothing", seconds, "c")

        waits = [asyncio.create_task(wait(DANA, 1)) for _ in range(MOST_WAITS)]
        await asyncio.sleep(0.3)
        refused = await wait(DANA, 0)
        other = await wait(OLGA, 0)
        assert await asyncio.gather(*waits) == [False] * MOST_WAITS
        after = await wait(DANA, 0)

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.RATE_LIMIT_EXCEEDED
    assert (other, after) == (False, False)


async def answer(asked: Any) -> Any:
    found = await asked
    assert not isinstance(found, Refusal), found
    return found


async def test_nothing_is_typed_into_a_terminal_that_is_over(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        await world.service.stop(DANA, terminal.id, "c")
        refused = await world.driving.send_input(DANA, terminal.id, "x", "c")

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.STATE_CONFLICT
    assert "terminal.input_sent" not in await world.events()


async def test_a_recording_is_read_whole_with_evidence_of_who_did(world: World) -> None:
    terminal = await world.create()
    none = await world.driving.recording(DANA, terminal.id, "c")
    folder = world.folder / "recordings" / terminal.id
    folder.mkdir(parents=True)
    parts = [b'{"version":3}\n[0.1,"o","a"]\n', b"x" * 100_000 + b"\n"]
    for number, part in enumerate(parts, 1):
        (folder / f"{number:06d}.cast").write_bytes(part)
    (folder / "000003.cast.open").write_bytes(b"whole\nhalf a li")
    (folder / "notes.txt").write_bytes(b"none of it")
    stranger = await world.driving.recording(EMIL, terminal.id, "c")
    stream = await answer(world.driving.recording(OLGA, terminal.id, "cor_read"))
    read = b"".join([part async for part in stream])

    assert isinstance(none, Refusal)
    assert none.code is ErrorCode.NOT_FOUND
    assert isinstance(stranger, Refusal)
    assert read == b"".join(parts) + b"whole\n"
    (event,) = [e for e in await world.evidence() if e["kind"] == "terminal.recording_read"]
    assert event["actor"]["key"] == OLGA.key


# -- database logins -------------------------------------------------------------------


async def test_both_policies_must_allow(world: World) -> None:
    denied = await world.service.create(DANA, wanted(database=replace(READ, role="app_admin")))
    unknown = await world.service.create(DANA, wanted(database=replace(READ, target="x")))

    assert isinstance(denied, Refusal)
    assert (denied.code, denied.reasons) == (ErrorCode.POLICY_DENIED, ("no grant covers it",))
    assert isinstance(unknown, Refusal)
    assert unknown.code is ErrorCode.NOT_FOUND
    assert await world.events() == ["terminal.denied"]


async def test_a_login_lives_and_dies_with_its_terminal(world: World, logins: FakeLogins) -> None:
    async with world.working():
        terminal = await world.ready(database=READ)
        bound = world.launcher.live[terminal.instance].login
        await world.service.stop(DANA, terminal.id, "c")
        await world.reach(terminal.id, S.CLEANED)

    assert logins.verifiers == [VERIFIER]
    assert bound is not None
    assert bound.session == terminal.database_session
    assert logins.ended == [terminal.database_session]
    events = await world.evidence()
    assert [e["kind"] for e in events[1:3]] == ["terminal.login_bound", "terminal.ready"]
    assert events[1]["data"]["sessionId"] == bound.session
    assert events[-1]["data"]["sessionEnded"] == bound.session


async def test_a_login_ends_though_the_runner_is_away(world: World, logins: FakeLogins) -> None:
    async with world.working():
        terminal = await world.ready(database=READ)
        world.launcher.reachable = False
        await world.service.stop(DANA, terminal.id, "c")

        async def ended() -> bool:
            return logins.ended == [terminal.database_session]

        assert await eventually(ended)
        found = await world.store.get(terminal.id)
        world.launcher.reachable = True
        await world.reach(terminal.id, S.CLEANED)

    assert found is not None
    assert found.status is S.REVOKED


async def test_a_login_does_not_wait_for_a_runner_that_hangs(
    world: World, logins: FakeLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, end = asyncio.Event(), world.launcher.end

    async def hang(terminal: TerminalId, instance: str, why: str) -> Gone:
        await answers.wait()
        return await end(terminal, instance, why)

    monkeypatch.setattr(world.launcher, "end", hang)
    async with world.working():
        terminal = await world.ready(database=READ)
        await world.service.stop(DANA, terminal.id, "c")

        async def ended() -> bool:
            return logins.ended == [terminal.database_session]

        assert await eventually(ended, 3)
        answers.set()
        await world.reach(terminal.id, S.CLEANED)


async def test_a_login_that_nobody_heard_of_is_ended_all_the_same(
    world: World, logins: FakeLogins
) -> None:
    async with world.working():
        logins.fail_after = [UnavailableError("the answer was lost")] * 1_000
        terminal = await world.create(database=READ)

        async def made() -> bool:
            return terminal.id in logins.live

        assert await eventually(made)
        await world.service.stop(DANA, terminal.id, "c")
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert cleaned.database_session is None
    assert logins.ended == [logins.live[terminal.id]]
    assert world.launcher.live == {}


async def test_a_lost_answer_to_the_binding_makes_no_second_login(
    world: World, logins: FakeLogins
) -> None:
    async with world.working():
        world.launcher.lose_answers = 2
        terminal = await world.ready(database=READ)

    assert len(logins.verifiers) == world.launcher.started == 1
    assert (await world.events()).count("terminal.login_bound") == 1
    assert isinstance(terminal, Terminal)


async def test_a_runner_that_restarts_before_the_binding_fails_it(
    world: World, logins: FakeLogins
) -> None:
    world.launcher.dies_at_bind = True
    async with world.working():
        terminal = await world.create(database=READ)
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert cleaned.error is not None
    assert "restarted" in cleaned.error.message
    assert logins.ended == [logins.live[terminal.id]]
    assert world.launcher.live == {}
