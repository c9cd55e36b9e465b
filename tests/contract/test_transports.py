"""One suite over every way to reach an agent: in this process, pushed, and fetched by polling."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.rigs import (
    AGENT,
    AGENT_KEY,
    PATIENCE_SECONDS,
    PLANE,
    PLANE_KEY,
    RANDOM,
    STRANGER,
    TARGET,
    MovableClock,
    WatchedExecutor,
    World,
    new_session,
    world_over,
)
from gatekeeper.databases.adapters.agents import mailbox
from gatekeeper.databases.model import EndUser, ManagedUser, UserCreated, UserRevoked
from gatekeeper.databases.ports import Receipt
from gatekeeper.kernel.errors import ErrorCode, Failure, GatekeeperError, Refusal
from gatekeeper.platform.crypto.envelope import (
    MAX_ENVELOPE_CHARS,
    Opened,
    own_message_id,
    read_envelope,
    seal,
)
from gatekeeper.wire import jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOREVER = timedelta(minutes=3)


@pytest.fixture(params=["inprocess", "push", "poll"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mail_dsn(transport: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("store_dsn")) if transport == "poll" else ""


@pytest.fixture
async def world(
    transport: str, mail_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(mailbox, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(mailbox, "LOOK_AGAIN_SECONDS", 0.1)
    async with world_over(transport, dsn=mail_dsn, folder=tmp_path) as made:
        yield made


async def fails(call: Awaitable[Any], code: ErrorCode) -> GatekeeperError:
    with pytest.raises(GatekeeperError) as caught:
        await asyncio.wait_for(call, PATIENCE_SECONDS)
    assert caught.value.code is code
    return caught.value


async def refused_by_agent(world: World, call: Coroutine[Any, Any, Any]) -> None:
    """See the agent refuse: one that only polls cannot say so, and is waited for in vain."""
    asked = asyncio.create_task(call)
    seen = asyncio.create_task(world.executor.refused.wait())
    await asyncio.wait({asked, seen}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    refused = world.executor.refused.is_set()
    for task in (asked, seen):
        task.cancel()
    answers = await asyncio.gather(asked, return_exceptions=True)
    await asyncio.gather(seen, return_exceptions=True)
    if isinstance(answers[0], GatekeeperError):
        assert answers[0].code is ErrorCode.AGENT_REJECTED
    else:
        assert refused
        assert isinstance(answers[0], asyncio.CancelledError)


async def made(world: World, **changes: Any) -> tuple[EndUser, UserCreated]:
    session = new_session(**changes)
    (receipt,) = await world.gateway.create(TARGET, [session])
    assert isinstance(receipt, Receipt), receipt
    return EndUser(session=session.id, correlation_id="cor"), receipt.value


def message(
    payload: bytes | None = None,
    *,
    audience: str = AGENT,
    key: Ed25519PrivateKey = PLANE_KEY,
    moved: timedelta = timedelta(),
) -> str:
    work = jobs.ReconcileJob(id="j", correlation_id="c", target=TARGET.name)
    return seal(
        payload or jobs.BATCH.dump_json((work,), by_alias=True),
        key=key,
        sender=PLANE,
        audience=audience,
        purpose="job",
        message_id=RANDOM.bytes(16).hex(),
        now=MovableClock(moved).now(),
    )


# ── What is asked is done ─────────────────────────────────────────────────────


async def test_logins_are_made_and_each_answer_is_a_receipt(world: World) -> None:
    sessions = [new_session() for _ in range(5)]

    receipts = await world.gateway.create(TARGET, sessions)

    assert world.provider.made == [session.username for session in sessions]
    for session, receipt in zip(sessions, receipts, strict=True):
        assert isinstance(receipt, Receipt)
        assert receipt.value.username == session.username
        said = read_envelope(
            receipt.signed,
            trusted={AGENT: (AGENT_KEY.public_key(),)},
            audience=PLANE,
            purpose="result",
            now=MovableClock().now(),
        )
        assert isinstance(said, Opened)
        assert session.id in said.payload.decode()


async def test_a_password_the_agent_makes_is_sealed_to_us(world: World) -> None:
    _, created = await made(world, verifier=None)

    assert created.sealed_password is not None
    password = world.sealer.open(created.sealed_password)
    assert len(password) >= 40
    assert password not in "".join(world.wire.sent + world.wire.answers)


async def test_many_logins_end_with_one_message_though_one_of_them_cannot(world: World) -> None:
    ends = [(await made(world))[0] for _ in range(4)]
    names = list(world.provider.made)
    world.provider.stuck.add(names[2])
    before = len(world.wire.sent)

    answers = await world.gateway.revoke(TARGET, ends)

    assert len(world.wire.sent) == before + 1
    assert isinstance(answers[2], Failure)
    assert (answers[2].code, answers[2].retryable) == (ErrorCode.TARGET_BUSY, True)
    gone = [a.value for a in answers if isinstance(a, Receipt)]
    assert [proof.username for proof in gone] == [names[0], names[1], names[3]]
    assert all(isinstance(proof, UserRevoked) and proof.gone for proof in gone)
    assert set(world.provider.logins) == {names[2]}


async def test_a_login_is_extended_listed_and_the_target_examined(world: World) -> None:
    end, created = await made(world)

    extended = await world.gateway.extend(TARGET, end.session, timedelta(hours=1), "cor")
    listed = await world.gateway.list_users(TARGET, "cor")
    checks = await world.gateway.doctor(TARGET, "cor")

    assert extended.value.expires_at > created.expires_at
    (user,) = listed.value
    assert isinstance(user, ManagedUser)
    assert (user.username, user.expires_at) == (created.username, extended.value.expires_at)
    assert checks == world.provider.checks


async def test_what_the_target_says_arrives_as_what_it_is(world: World) -> None:
    world.provider.reachable = False

    (answer,) = await world.gateway.create(TARGET, [new_session()])

    assert isinstance(answer, Failure)
    assert (answer.code, answer.retryable) == (ErrorCode.TARGET_UNREACHABLE, True)
    error = await fails(world.gateway.doctor(TARGET, "cor"), ErrorCode.TARGET_UNREACHABLE)
    assert error.retryable


# ── What happens when something breaks ────────────────────────────────────────


async def test_a_lost_answer_and_the_job_again_make_one_login(world: World) -> None:
    session = new_session()
    world.wire.lose_answers = 1
    error = await fails(world.gateway.create(TARGET, [session]), ErrorCode.AGENT_UNREACHABLE)
    assert error.retryable

    (again,) = await world.gateway.create(TARGET, [session])

    assert isinstance(again, Receipt)
    assert world.provider.made == [session.username]
    assert again.value.expires_at == world.provider.logins[session.username].expires_at


async def test_an_agent_killed_midway_and_started_again_makes_one_login(
    world: World, transport: str
) -> None:
    session = new_session()
    world.provider.gate.clear()
    first = asyncio.create_task(world.gateway.create(TARGET, [session]))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not world.provider.made:
            await asyncio.sleep(0.005)

    await world.rig.kill()
    world.provider.gate.set()
    await world.restart_agent()
    if transport == "push":
        await fails(first, ErrorCode.AGENT_UNREACHABLE)
    else:  # a message that was fetched and not answered is handed out again
        await asyncio.wait_for(first, PATIENCE_SECONDS)

    (again,) = await world.gateway.create(TARGET, [session])
    assert isinstance(again, Receipt)
    assert world.provider.made == [session.username]


async def test_an_agent_that_is_away_is_unreachable_which_may_pass(
    world: World, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if transport == "inprocess":
        pytest.skip("an agent in this process is never away")
    monkeypatch.setattr(mailbox, "FETCH_SECONDS", 0.3)
    await world.rig.kill()

    error = await fails(world.gateway.list_users(TARGET, "cor"), ErrorCode.AGENT_UNREACHABLE)

    assert error.retryable
    await world.restart_agent()
    assert (await world.gateway.list_users(TARGET, "cor")).value == ()


# ── What is not believed ──────────────────────────────────────────────────────


async def test_a_message_sent_again_is_refused(world: World) -> None:
    await world.gateway.list_users(TARGET, "cor")
    calls = world.provider.calls

    await refused_by_agent(world, world.wire.transport.exchange(world.wire.sent[0]))

    assert world.provider.calls == calls


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(lambda: message(audience="another"), id="for another agent"),
        pytest.param(lambda: message(key=STRANGER), id="signed by a stranger"),
        pytest.param(lambda: message(key=AGENT_KEY), id="signed by the agent itself"),
        pytest.param(lambda: message(moved=-FOREVER), id="expired"),
        pytest.param(lambda: message(moved=FOREVER), id="from the future"),
        pytest.param(lambda: message(b"[]"), id="no job in it"),
        pytest.param(lambda: message(b"x" * MAX_ENVELOPE_CHARS["job"]), id="too large"),
    ],
)
async def test_the_agent_carries_out_no_other_message(world: World, bad: Any) -> None:
    await refused_by_agent(world, world.wire.transport.exchange(bad()))

    assert world.provider.calls == 0


async def test_an_agent_whose_clock_is_wrong_refuses_what_is_fresh(world: World) -> None:
    world.clock.moved = FOREVER

    await refused_by_agent(world, world.gateway.list_users(TARGET, "cor"))

    assert world.provider.calls == 0


async def test_a_job_for_a_login_of_another_session_is_refused(world: World) -> None:
    _, created = await made(world)
    other = new_session(username=created.username)

    (answer,) = await world.gateway.create(TARGET, [other])

    assert isinstance(answer, Failure)
    assert (answer.code, answer.retryable) == (ErrorCode.AGENT_REJECTED, False)
    assert len(world.provider.made) == 1


async def test_an_answer_said_again_is_refused(world: World) -> None:
    await world.gateway.list_users(TARGET, "cor")
    world.wire.say_instead = world.wire.answers[0]

    await fails(world.gateway.list_users(TARGET, "cor"), ErrorCode.AGENT_REJECTED)


class _Liar(WatchedExecutor):
    """An agent that signs what it should not."""

    key = AGENT_KEY
    job_id = "j"
    size = 0
    answers = 1

    async def handle(self, envelope: str) -> str | Refusal:
        result = jobs.ReconcileResult(
            job_id=self.job_id,
            correlation_id="c",
            status="completed",
            users=(
                jobs.ManagedUserReport(
                    username="x" * self.size,
                    can_login=True,
                    expires_at=None,
                    backends=0,
                    packs=(),
                    drift=(),
                ),
            ),
        )
        line = seal(
            result.model_dump_json(by_alias=True).encode(),
            key=self.key,
            sender=AGENT,
            audience=PLANE,
            purpose="result",
            message_id=RANDOM.bytes(16).hex(),
            now=MovableClock().now(),
            in_reply_to=own_message_id(envelope),
        )
        return "\n".join([line] * self.answers)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param({"job_id": "another"}, id="a result of another job"),
        pytest.param({"key": STRANGER}, id="a result signed by a stranger"),
        pytest.param({"size": MAX_ENVELOPE_CHARS["result"]}, id="a result that is too large"),
        pytest.param({"answers": 2}, id="more results than jobs"),
    ],
)
async def test_no_other_answer_is_believed(
    world: World, transport: str, lie: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.restart_agent(type("Liar", (_Liar,), lie))

    code = ErrorCode.AGENT_REJECTED
    if transport == "poll" and lie.keys() & {"key", "size"}:
        # It never gets past the door of the control plane, so it is no answer at all.
        monkeypatch.setattr(world.wire.transport, "_seconds", 0.5)
        code = ErrorCode.AGENT_UNREACHABLE
    await fails(world.gateway.list_users(TARGET, "cor"), code)
