"""Both sides of each contract in tests/pacts: the consumer copes with it, the provider keeps it."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pact import Verifier
from pact._server import HandlerHttpServer
from pact.types import Message
from test_api import Api, api, body  # noqa: F401  # `api` is a fixture

from factories.installation import ISSUER
from fakes.provider import FakeProvider
from gatekeeper.client import operations
from gatekeeper.client.api import ApiError, Client
from gatekeeper.databases.adapters.agents.executor import AgentExecutor, ServedTarget
from gatekeeper.databases.adapters.agents.gateway import AgentGateway
from gatekeeper.databases.adapters.store import PostgresSessionStore
from gatekeeper.databases.model import CreateUser, EndUser, ObjectPolicy, Session, Target
from gatekeeper.kernel.errors import ErrorCode, Refusal, UnavailableError
from gatekeeper.kernel.ids import RoleName, SessionId, role_name
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.crypto.envelope import Opened, Purpose, ReplayGuard, open_envelope, seal
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.wire.sessions import ExtendSession
from published import pacts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST: Final = "127.0.0.1"
NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLANE, AGENT = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))


@pytest.fixture(autouse=True)
def _close_what_pact_leaves_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pact stops its helper servers and keeps their sockets."""
    stop = HandlerHttpServer.shutdown

    def stop_and_close(server: HandlerHttpServer[Any]) -> None:
        stop(server)
        server.server_close()

    monkeypatch.setattr(HandlerHttpServer, "shutdown", stop_and_close)


# What stands in the files


def test_the_pacts_are_what_the_consumers_say(tmp_path: Path) -> None:
    pacts.write(tmp_path)

    for path in tmp_path.iterdir():
        committed = json.loads((pacts.PACTS / path.name).read_text())
        assert committed == json.loads(path.read_text()), "run `make docs`"
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in pacts.PACTS.iterdir()}


# gk and the API


def test_the_client_copes_with_the_api_of_the_pact() -> None:
    ids_of = pacts.session_id
    with (
        pacts.api().serve(addr=HOST) as server,
        Client(str(server.url), Secret("token"), correlation_id="cor_pact") as client,
    ):
        wish = body(credential={"kind": "scram-sha-256", "verifier": pacts.VERIFIER})
        made = client.call(operations.create_session(wish, idempotency_key="pact", wait=10))
        seen = client.call(operations.get_session(ids_of("b")))
        listed = client.call(operations.list_sessions(statuses=["ready"], mine=True))
        longer = client.call(operations.extend_session(ids_of("d"), ExtendSession(ttl="30m")))
        gone = client.call(operations.revoke_session(ids_of("e"), wait=10))
        with pytest.raises(ApiError) as caught:
            client.call(operations.get_session(ids_of("z")))

    assert {made.status, seen.status, longer.status} == {SessionStatus.READY}
    assert listed.items[0].connection is not None
    assert gone.status is SessionStatus.CLEANED
    assert caught.value.code is ErrorCode.NOT_FOUND


def test_the_api_keeps_the_pact_with_its_client(api: Api) -> None:  # noqa: F811
    def prepare(state: str, parameters: dict[str, Any]) -> None:
        if state == "a ready session":
            make_session(api, SessionId(parameters["id"]))

    token = api.token("dana", "eng").reveal()
    (
        Verifier("control-plane", host=HOST)
        .add_transport(url=api.url)
        .add_source(pacts.PACTS / "gk-control-plane.json")
        .add_custom_header("Authorization", f"Bearer {token}")
        .state_handler(prepare, teardown=False)
        .set_coloured_output(enabled=False)
        .verify()
    )


def make_session(api: Api, session: SessionId) -> None:  # noqa: F811
    """Put a session of this id into the store; the control plane has its login made as ever."""
    draft = a_session(session, requester=f"{ISSUER}#dana")

    async def add() -> None:
        pool = Pool(Secret(api.store_dsn), name="pact", max_size=1)
        await pool.open()
        async with PostgresSessionStore(pool).transaction() as unit:
            await unit.schedule_issue(await unit.add(draft))
        await pool.close()

    asyncio.run(add())
    with api.client("dana") as client:
        deadline = time.monotonic() + 60
        while client.call(operations.get_session(session)).status is not SessionStatus.READY:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def a_session(
    session: SessionId, *, requester: str, verifier: str | None = pacts.VERIFIER
) -> Session:
    return Session(
        id=session, status=SessionStatus.PENDING, requester=requester, requester_email=None,
        target=pacts.TARGET, role="app_read", reason="why", grant="eng",
        username=role_name(session), ttl=timedelta(minutes=5), max_ttl=timedelta(hours=1),
        verifier=verifier, sealed_password=None, correlation_id=pacts.CORRELATION,
        created_at=datetime.now(UTC),  # noqa: TID251  # the store's clock is this machine's
        ready_at=None, expires_at=None, ended_at=None, cleaned_at=None, error=None,
    )  # fmt: skip


# Jobs: the agent reads, the control plane writes


def test_the_agent_copes_with_the_jobs_of_the_pact() -> None:
    def take(job: str | bytes | None, _metadata: dict[str, object]) -> None:
        assert job is not None
        payload = job if isinstance(job, bytes) else job.encode()
        answer = asyncio.run(answered(payload, FakeProvider()))
        assert json.loads(answer)["status"] != "failed", answer

    pacts.jobs().verify(take, "Async")


def test_the_control_plane_keeps_the_pact_of_its_jobs() -> None:
    verify_messages(
        "control-plane",
        "agent-control-plane.json",
        {
            "a job to make a login from a verifier": lambda g: g.create(TARGET, [wished()]),
            "a job to make a login and its password": lambda g: g.create(
                TARGET, [wished(verifier=None)]
            ),
            "a job to extend a login": extend,
            "a job to end a login": revoke,
            "a job to report logins": lambda g: g.list_users(TARGET, pacts.CORRELATION),
            "a job to check a target": lambda g: g.doctor(TARGET, pacts.CORRELATION),
        },
        said=job_of,
    )


# Results: the control plane reads, the agent writes


def test_the_control_plane_copes_with_the_results_of_the_pact() -> None:
    asks: dict[str, Any] = {
        "create_session": lambda g: g.create(TARGET, [wished()]),
        "extend_session": extend,
        "revoke_session": revoke,
        "reconcile": lambda g: g.list_users(TARGET, pacts.CORRELATION),
        "doctor": lambda g: g.doctor(TARGET, pacts.CORRELATION),
    }

    def take(result: str | bytes | None, _metadata: dict[str, object]) -> None:
        assert result is not None
        payload = result if isinstance(result, bytes) else result.encode()
        said = json.loads(payload)
        answer = asyncio.run(asks[said["type"]](gateway(Says(payload))))
        assert ("TARGET_UNREACHABLE" in repr(answer)) == (said["status"] == "failed")

    pacts.results().verify(take, "Async")


def test_the_agent_keeps_the_pact_of_its_results() -> None:
    verify_messages(
        "agent",
        "control-plane-agent.json",
        {
            "a login was made": lambda g: g.create(TARGET, [wished()]),
            "a login could not be made": lambda g: g.create(TARGET, [wished()]),
            "a login was extended": extend,
            "a login is gone": revoke,
            "logins were reported": lambda g: g.list_users(TARGET, pacts.CORRELATION),
            "a target was checked": lambda g: g.doctor(TARGET, pacts.CORRELATION),
        },
        said=lambda name, ask: asyncio.run(
            answered(
                job_of(name, ask),
                FakeProvider(reachable=name != "a login could not be made"),
            )
        ),
    )


def verify_messages(
    provider: str, pact: str, asks: dict[str, Any], *, said: Callable[[str, Any], bytes]
) -> None:
    """Have Pact compare each message with what the real sender puts into its envelope."""

    def message(name: str) -> Message:
        return Message(
            contents=said(name, asks[name]), metadata=None, content_type="application/json"
        )

    (
        Verifier(provider, host=HOST)
        .message_handler(message)
        .add_source(pacts.PACTS / pact)
        .set_coloured_output(enabled=False)
        .verify()
    )


# The real sender and reader of each, around one payload

TARGET: Final = Target(
    name=pacts.TARGET, agent="agent", host=HOST, port=5432, database="shop", sslmode="disable",
    min_ttl=timedelta(seconds=1), max_ttl=timedelta(hours=1), roles=("app_read",),
)  # fmt: skip


def wished(verifier: str | None = pacts.VERIFIER) -> Session:
    return a_session(SessionId(pacts.SESSION), requester="dana", verifier=verifier)


async def extend(gateway: AgentGateway) -> Any:
    return await gateway.extend(
        TARGET, SessionId(pacts.SESSION), timedelta(minutes=10), pacts.CORRELATION
    )


async def revoke(gateway: AgentGateway) -> Any:
    ended = EndUser(session=SessionId(pacts.SESSION), correlation_id=pacts.CORRELATION)
    return await gateway.revoke(TARGET, [ended])


def job_of(_name: str, ask: Any) -> bytes:
    """Return what the gateway puts into the envelope when it is asked for this."""
    listener = Hears()
    with pytest.raises(UnavailableError):
        asyncio.run(ask(gateway(listener)))
    return listener.payload


async def answered(payload: bytes, provider: FakeProvider) -> bytes:
    """Return what an agent puts into the envelope of its answer to this payload."""
    if b'"create_session"' not in payload:
        await provider.create_ephemeral_user(
            CreateUser(
                session=SessionId(pacts.SESSION), username=RoleName(pacts.USERNAME),
                role="app_read", ttl=timedelta(minutes=5), verifier=pacts.VERIFIER,
                correlation_id=pacts.CORRELATION,
            )
        )  # fmt: skip
    executor = AgentExecutor(
        name="agent",
        key=AGENT,
        control_planes={"plane": (PLANE.public_key(),)},
        targets={
            pacts.TARGET: ServedTarget(provider=provider, owned_objects=ObjectPolicy.QUARANTINE)
        },
        seen=ReplayGuard(),
        clock=Still(),
        random=Zeros(),
    )
    answer = await executor.handle(sealed(payload, "job"))
    assert isinstance(answer, str), answer
    return opened(answer, "result").payload


class Hears:
    """A transport that keeps what it was to carry, and never comes back."""

    payload = b""

    async def exchange(self, envelope: str) -> str:
        self.payload = opened(envelope, "job").payload
        msg = "heard"
        raise UnavailableError(msg)

    async def close(self) -> None:
        """Nothing is held."""


class Says:
    """A transport whose agent always answers the same."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    async def exchange(self, _envelope: str) -> str:
        return sealed(self._payload, "result")

    async def close(self) -> None:
        """Nothing is held."""


class Still:
    def now(self) -> datetime:
        return NOW


class Zeros:
    def bytes(self, count: int) -> bytes:
        return bytes(count)


class Seals:
    public_key = pacts.SEAL_TO

    def open(self, sealed: str) -> str:
        raise AssertionError(sealed)


def gateway(transport: Any) -> AgentGateway:
    return AgentGateway(
        name="plane",
        key=PLANE,
        agent_keys={"agent": AGENT.public_key()},
        transports={"agent": transport},
        seen=ReplayGuard(),
        sealer=Seals(),
        clock=Still(),
        random=Zeros(),
    )


def sealed(payload: bytes, purpose: Purpose) -> str:
    job = purpose == "job"
    return seal(
        payload,
        key=PLANE if job else AGENT,
        sender="plane" if job else "agent",
        audience="agent" if job else "plane",
        purpose=purpose,
        message_id=f"{purpose}-1",
        now=NOW,
        in_reply_to=None if job else pacts.NONCE,
    )


def opened(envelope: str, purpose: Purpose) -> Opened:
    job = purpose == "job"
    found = open_envelope(
        envelope,
        trusted={"plane": (PLANE.public_key(),)} if job else {"agent": (AGENT.public_key(),)},
        audience="agent" if job else "plane",
        purpose=purpose,
        now=NOW,
        seen=ReplayGuard(),
        in_reply_to=None if job else "job-1",
    )
    assert not isinstance(found, Refusal), found
    return found
