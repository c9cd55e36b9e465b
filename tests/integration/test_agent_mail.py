"""What a control plane gives to agents that only dial out, and to nobody else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.rigs import (
    AGENT,
    AGENT_KEY,
    PATIENCE_SECONDS,
    PLANE,
    PLANE_KEY,
    RANDOM,
    STRANGER,
    TARGET,
    ControlPlane,
    MovableClock,
    application,
    make_executor,
    make_poller,
    new_session,
    polled_at,
    serving,
)
from fakes.provider import FakeProvider
from gatekeeper.databases.adapters.agents import mailbox
from gatekeeper.databases.adapters.agents.http import (
    POLL_PATH,
    RESULTS_PATH,
    Doorkeeper,
    mail_routes,
)
from gatekeeper.databases.adapters.agents.mailbox import Mailbox
from gatekeeper.databases.adapters.agents.transports import MAX_ANSWER_BYTES, Fetched
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.crypto.envelope import MAX_ENVELOPE_CHARS, own_message_id, seal
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.wire import jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gatekeeper.platform.crypto.envelope import Purpose

OTHER = "other"
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes([4]) * 32)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "LOOK_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(mailbox, "POLL_SECONDS", 0.4)


@pytest.fixture
async def plane(store_dsn: str) -> AsyncIterator[ControlPlane]:
    async with polled_at(store_dsn, agent=AGENT_KEY, other=OTHER_KEY) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as made:
        yield made


def sealed(purpose: Purpose, **changes: Any) -> str:
    values: dict[str, Any] = {
        "key": AGENT_KEY,
        "sender": AGENT,
        "audience": PLANE,
        "message_id": RANDOM.bytes(16).hex(),
        "now": MovableClock().now(),
        "in_reply_to": "m" if purpose == "result" else None,
    }
    return seal(changes.pop("payload", b""), purpose=purpose, **(values | changes))


def poll(**changes: Any) -> str:
    return sealed("poll", **changes)


def job(agent: str = AGENT) -> str:
    return sealed("job", key=PLANE_KEY, sender=PLANE, audience=agent)


def answer_to(envelope: str, **changes: Any) -> str:
    return sealed("result", in_reply_to=own_message_id(envelope), **changes)


@asynccontextmanager
async def asked(
    plane: ControlPlane, envelope: str, agent: str = AGENT
) -> AsyncIterator[asyncio.Task[str]]:
    """Have a message wait for its agent."""
    waiting = asyncio.create_task(
        plane.mailbox.exchange(
            agent, own_message_id(envelope), envelope, seconds=2 * PATIENCE_SECONDS
        ),
        name="exchange",
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await rows(plane, "agent_mail"):
            await asyncio.sleep(0.01)
    yield waiting
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def rows(plane: ControlPlane, table: str) -> list[Any]:
    async with plane.pool.connection() as connection:
        return await (
            await connection.execute(f"SELECT * FROM gatekeeper.{table}".encode())
        ).fetchall()


# ── Who is let in ─────────────────────────────────────────────────────────────


BAD: dict[str, Callable[[Purpose], str]] = {
    "nothing": lambda _: "",
    "no message": lambda _: "a.b.c",
    "no ASCII": lambda _: "é",
    "signed by a stranger": lambda p: sealed(p, key=STRANGER),
    "signed by another agent": lambda p: sealed(p, key=OTHER_KEY),
    "signed by the control plane": lambda p: sealed(p, key=PLANE_KEY, sender=PLANE),
    "in another name": lambda p: sealed(p, sender="nobody"),
    "to another control plane": lambda p: sealed(p, audience="elsewhere"),
    "too old": lambda p: sealed(p, now=MovableClock(-timedelta(minutes=3)).now()),
    "from the future": lambda p: sealed(p, now=MovableClock(timedelta(minutes=3)).now()),
    "a job": lambda _: sealed("job"),
    "of the other purpose": lambda p: sealed("poll" if p == "result" else "result"),
    "too large": lambda p: "x" * (MAX_ENVELOPE_CHARS[p] + 1),
    "two results, one of a stranger": lambda p: sealed(p) + "\n" + sealed(p, key=STRANGER),
    "two results, of two agents": lambda p: sealed(p) + "\n" + sealed(p, key=OTHER_KEY, sender=OTHER),
    "too many results": lambda p: "\n".join([sealed(p)] * (jobs.MAX_BATCH_JOBS + 1)),
}  # fmt: skip


@pytest.mark.parametrize(("path", "purpose"), [(POLL_PATH, "poll"), (RESULTS_PATH, "result")])
async def test_nobody_else_is_let_in_nor_is_the_store_asked_anything(
    client: httpx.AsyncClient, path: str, purpose: Purpose
) -> None:
    never_opened = Mailbox(Pool(Secret("host=127.0.0.1 port=1"), name="never-opened"))
    keys = {AGENT: AGENT_KEY.public_key(), OTHER: OTHER_KEY.public_key()}
    app = application()
    app.include_router(
        mail_routes(never_opened, Doorkeeper(name=PLANE, keys=keys, clock=MovableClock()))
    )
    async with serving(app) as url:
        for name, bad in BAD.items():
            answer = await client.post(url + path, content=bad(purpose).encode())
            assert answer.status_code in {401, 413}, name
            assert answer.json()["code"] in {"AUTHENTICATION_ERROR", "PAYLOAD_TOO_LARGE"}, name
        # What is let in does ask the store: the pool says that it was never opened.
        assert (await client.post(url + path, content=sealed(purpose))).status_code == 503


async def test_an_agent_fetches_its_own_messages_only(
    plane: ControlPlane, client: httpx.AsyncClient
) -> None:
    envelope = job()
    async with asked(plane, envelope):
        theirs = await client.post(plane.url + POLL_PATH, content=poll(key=OTHER_KEY, sender=OTHER))
        own = await client.post(plane.url + POLL_PATH, content=poll())

    assert (theirs.status_code, theirs.content) == (204, b"")
    assert (own.status_code, own.text) == (200, envelope)


async def test_a_poll_is_taken_once_by_whichever_control_plane(
    plane: ControlPlane, client: httpx.AsyncClient, store_dsn: str
) -> None:
    overheard = poll()
    assert (await client.post(plane.url + POLL_PATH, content=overheard)).status_code == 204

    async with polled_at(store_dsn) as second, asked(plane, job()):
        for url in (plane.url, second.url):
            again = await client.post(url + POLL_PATH, content=overheard)
            assert (again.status_code, again.json()["code"]) == (401, "AUTHENTICATION_ERROR")
        assert (await client.post(second.url + POLL_PATH, content=poll())).status_code == 200


async def test_an_agent_with_more_polls_than_it_needs_is_refused_and_others_are_not(
    plane: ControlPlane, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "POLL_SECONDS", PATIENCE_SECONDS)
    url = plane.url + POLL_PATH
    flood = [
        asyncio.create_task(client.post(url, content=poll())) for _ in range(mailbox.MOST_POLLS + 5)
    ]
    done: set[asyncio.Task[httpx.Response]] = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(done) < 5:
            done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)

        while len(await rows(plane, "agent_poll")) < mailbox.MOST_POLLS:
            await asyncio.sleep(0.01)

    assert [task.result().status_code for task in done] == [429] * 5
    monkeypatch.setattr(mailbox, "POLL_SECONDS", 0.1)
    other = await client.post(url, content=poll(key=OTHER_KEY, sender=OTHER))
    assert other.status_code == 204
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_what_many_polls_left_behind_is_taken_away_at_once(plane: ControlPlane) -> None:
    async with plane.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO gatekeeper.agent_poll (message_id, seen_at)"
            " SELECT 'p' || n, clock_timestamp() - interval '1 hour'"
            " FROM generate_series(1, %s) AS n",
            (2 * mailbox.CLEAN_ROWS + 1,),
        )

    await plane.mailbox.clean()

    assert await rows(plane, "agent_poll") == []


async def test_an_answer_is_taken_once_and_from_the_agent_that_was_asked(
    plane: ControlPlane, client: httpx.AsyncClient
) -> None:
    envelope = job()
    async with asked(plane, envelope) as waiting:
        forged = answer_to(envelope, key=OTHER_KEY, sender=OTHER)
        assert (await client.post(plane.url + RESULTS_PATH, content=forged)).status_code == 409
        assert not waiting.done()

        answer = answer_to(envelope)
        taken = await client.post(plane.url + RESULTS_PATH, content=answer)
        assert (taken.status_code, taken.content) == (204, b"")
        assert await asyncio.wait_for(waiting, PATIENCE_SECONDS) == answer
        again = await client.post(plane.url + RESULTS_PATH, content=answer)
        assert (again.status_code, again.json()["code"]) == (409, "STATE_CONFLICT")
    assert await rows(plane, "agent_mail") == []


async def test_the_largest_answer_is_taken(plane: ControlPlane, client: httpx.AsyncClient) -> None:
    envelope = job()
    async with asked(plane, envelope):
        large = answer_to(envelope, payload=b"x" * 780_000)
        assert 1_000_000 < len(large) < MAX_ANSWER_BYTES
        answer = await client.post(plane.url + RESULTS_PATH, content=large)

    assert answer.status_code == 204


# ── Leases ────────────────────────────────────────────────────────────────────


async def test_a_message_is_handed_out_once_while_its_lease_lasts(
    plane: ControlPlane, client: httpx.AsyncClient
) -> None:
    async with asked(plane, job()):
        answers = await asyncio.gather(
            *(client.post(plane.url + POLL_PATH, content=poll()) for _ in range(5))
        )

    assert sorted(answer.status_code for answer in answers) == [200, 204, 204, 204, 204]


async def test_what_is_not_answered_in_its_lease_is_handed_out_again_and_a_late_answer_is_no_harm(
    plane: ControlPlane, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "LEASE_SECONDS", 0.1)
    monkeypatch.setattr(mailbox, "POLL_SECONDS", PATIENCE_SECONDS)
    envelope = job()
    async with asked(plane, envelope) as waiting:
        first = await client.post(plane.url + POLL_PATH, content=poll())
        second = await client.post(plane.url + POLL_PATH, content=poll())
        assert first.text == second.text == envelope

        answers = [answer_to(envelope), answer_to(envelope)]
        codes = [
            (await client.post(plane.url + RESULTS_PATH, content=answer)).status_code
            for answer in answers
        ]
        assert codes == [204, 409]
        assert await asyncio.wait_for(waiting, PATIENCE_SECONDS) == answers[0]


async def test_a_poller_that_went_away_is_given_nothing(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "POLL_SECONDS", PATIENCE_SECONDS)
    async with httpx.AsyncClient(trust_env=False) as leaving:
        with pytest.raises(httpx.ReadTimeout):
            await leaving.post(plane.url + POLL_PATH, content=poll(), timeout=0.3)

    async with asked(plane, job()):
        await asyncio.sleep(0.3)  # three looks of a poll that was not ended
        assert [lease for *_, lease, _answer in await rows(plane, "agent_mail")] == [None]


# ── Any number of control planes ──────────────────────────────────────────────


async def test_an_exchange_in_one_control_plane_is_answered_through_another(
    plane: ControlPlane, store_dsn: str
) -> None:
    provider = FakeProvider()
    stopping = asyncio.Event()
    async with polled_at(store_dsn) as second:
        poller = make_poller(second.url, make_executor(provider))
        agent = asyncio.create_task(poller.run(stopping), name="poller")
        transport = Fetched(plane.mailbox, AGENT)
        answer = await asyncio.wait_for(transport.exchange(_work()), PATIENCE_SECONDS)
        stopping.set()
        await agent

    assert answer.count(".") == 2
    assert provider.calls == 1
    assert await rows(plane, "agent_mail") == []


async def test_a_message_nobody_fetches_is_taken_back_and_its_agent_unreachable(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "FETCH_SECONDS", 0.2)

    with pytest.raises(GatekeeperError, match="did not ask") as caught:
        await Fetched(plane.mailbox, AGENT).exchange(job())

    assert (caught.value.code, caught.value.retryable) == (ErrorCode.AGENT_UNREACHABLE, True)
    assert await rows(plane, "agent_mail") == []


async def test_what_a_killed_control_plane_left_is_cleaned_away(plane: ControlPlane) -> None:
    async with plane.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO gatekeeper.agent_mail (message_id, agent, envelope, expires_at)"
            " SELECT n::text, 'a', 'e', clock_timestamp() + make_interval(secs => n - 1000)"
            " FROM generate_series(1, 2000) n"
        )
        await connection.execute(
            "INSERT INTO gatekeeper.agent_poll (message_id, seen_at)"
            " SELECT n::text, clock_timestamp() - make_interval(secs => n)"
            " FROM generate_series(1, 2000) n"
        )
    for _ in range(3):
        await plane.mailbox.clean()

    assert 990 <= len(await rows(plane, "agent_mail")) <= 1000
    # A poll is remembered for as long as it could pass for fresh: its life and twice the leeway.
    assert 119 <= len(await rows(plane, "agent_poll")) <= 120


# ── The agent's side ──────────────────────────────────────────────────────────


async def test_an_agent_comes_back_when_its_control_plane_does(store_dsn: str) -> None:
    stopping = asyncio.Event()
    async with polled_at(store_dsn) as before:
        url = before.url
    agent = asyncio.create_task(
        make_poller(url, make_executor(FakeProvider())).run(stopping), name="poller"
    )
    await asyncio.sleep(0.2)
    assert not agent.done()
    async with polled_at(store_dsn, port=int(url.rpartition(":")[2])) as after:
        await asyncio.wait_for(Fetched(after.mailbox, AGENT).exchange(_work()), PATIENCE_SECONDS)
        stopping.set()
        await agent


async def test_an_agent_told_to_stop_finishes_what_it_began(plane: ControlPlane) -> None:
    provider, stopping = FakeProvider(), asyncio.Event()
    provider.gate.clear()
    agent = asyncio.create_task(
        make_poller(plane.url, make_executor(provider)).run(stopping), name="poller"
    )
    session = new_session()
    work = jobs.CreateSessionJob(
        id="j", correlation_id="c", target=TARGET.name, session_id=session.id,
        username=session.username, role="app_read", ttl_seconds=60, verifier=session.verifier,
    )  # fmt: skip
    asked = asyncio.create_task(Fetched(plane.mailbox, AGENT).exchange(_work(work)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not provider.made:
            await asyncio.sleep(0.01)

    stopping.set()
    await asyncio.sleep(0.1)
    assert not agent.done()
    provider.gate.set()

    assert await asyncio.wait_for(asked, PATIENCE_SECONDS)
    await asyncio.wait_for(agent, PATIENCE_SECONDS)


def _work(work: jobs.Job | None = None) -> str:
    asked = work or jobs.ReconcileJob(id="j", correlation_id="c", target=TARGET.name)
    return sealed(
        "job", key=PLANE_KEY, sender=PLANE, audience=AGENT,
        payload=jobs.BATCH.dump_json((asked,), by_alias=True),
    )  # fmt: skip
