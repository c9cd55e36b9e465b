"""What every `Sessions` promises, on the fake and on a real Gatekeeper; then hostile answers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest

from factories import installation
from factories.installation import (
    AGENT,
    TARGET,
    agent_settings,
    control_plane_settings,
    database,
    issuer_key,
    policy,
    serving,
    target_settings,
    token,
)
from fakes.backend_server import CUT, HANG, BackendServer, Scripted, reply
from fakes.live_sessions import FakeSessions
from gatekeeper import bootstrap
from gatekeeper.bootstrap.settings import AgentSettings, ControlPlaneSettings, load_settings
from gatekeeper.client import operations
from gatekeeper.client.api import Client
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.forwardauth.adapters.sessions import MAX_PAGES, GatekeeperSessions
from gatekeeper.forwardauth.model import LiveSession, Rejected
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.outbound.client import OutboundClient
from gatekeeper.platform.outbound.guard import AddressGuard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gatekeeper.forwardauth.ports import Sessions
    from gatekeeper.platform.crypto.keys import TokenKey
    from gatekeeper.platform.postgres.embedded import EmbeddedServer


@asynccontextmanager
async def asking(server: str) -> AsyncIterator[GatekeeperSessions]:
    client = OutboundClient(guard=AddressGuard(), max_connections=4)
    try:
        yield GatekeeperSessions(server, client=client, clock=SystemClock())
    finally:
        await client.close()


class Rig(Protocol):
    @property
    def sessions(self) -> Sessions: ...

    def token(self, name: str) -> str:
        """Return a token of this person, who is known."""
        ...

    async def begin(self, name: str) -> str:
        """Begin a session of this person; return its id."""
        ...

    async def end(self, name: str, session: str) -> None: ...


@dataclass
class FakeRig:
    sessions: FakeSessions = field(default_factory=FakeSessions)
    _begun: int = 0

    def token(self, name: str) -> str:
        self.sessions.sessions.setdefault(name, ())
        return name

    async def begin(self, name: str) -> str:
        self._begun += 1
        made = LiveSession(
            id=f"ses_{self._begun}",
            target=TARGET,
            role="app_read",
            expires_at="2030-01-01T00:00:00Z",
        )
        self.sessions.sessions[name] = (made, *self.sessions.sessions.get(name, ()))
        return made.id

    async def end(self, name: str, session: str) -> None:
        kept = tuple(one for one in self.sessions.sessions[name] if one.id != session)
        self.sessions.sessions[name] = kept


@dataclass
class RealRig:
    sessions: GatekeeperSessions
    url: str
    key: TokenKey

    def token(self, name: str) -> str:
        return token(self.key, name, "eng", "operators").reveal()

    async def begin(self, name: str) -> str:
        return await asyncio.to_thread(self._begin, name)

    async def end(self, name: str, session: str) -> None:
        await asyncio.to_thread(self._end, name, session)

    def _begin(self, name: str) -> str:
        with self._client(name) as client:
            asked = operations.create_session(
                installation.request(),
                idempotency_key=str(uuid4()),
                wait=30,
            )
            return client.call(asked).session_id

    def _end(self, name: str, session: str) -> None:
        with self._client(name) as client:
            client.call(operations.revoke_session(session, wait=30))

    def _client(self, name: str) -> Client:
        return Client(self.url, Secret(self.token(name)), correlation_id="cor_test")


@pytest.fixture(scope="module")
def gatekeeper(
    server_18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, TokenKey]]:
    folder = tmp_path_factory.mktemp("sessions")
    with database(server_18, "live_sessions_store") as owner:
        store = asyncio.run(bootstrap.prepare_store(Secret(owner)))
        agent_dsn = asyncio.run(bootstrap.prepare_sample_target(Secret(server_18.dsn()), "shop"))
        keys = bootstrap.make_keys(folder / "keys")
        (folder / "policy.yaml").write_text(policy())
        write_toml(folder / "agent.toml", agent_settings(keys, agent_dsn))
        agent_app = bootstrap.agent_app(load_settings(AgentSettings, folder / "agent.toml", {}))
        with serving(agent_app) as agent:
            plane = control_plane_settings(
                folder,
                store.reveal(),
                agents={AGENT: {"url": agent, "public_key": keys.agent_public}},
                targets=[target_settings(server_18)],
            )
            write_toml(folder / "cp.toml", plane)
            settings = load_settings(ControlPlaneSettings, folder / "cp.toml", {})
            app = bootstrap.control_plane_app(settings, stop=lambda: None)
            with serving(app) as url:
                yield url, issuer_key(folder)


@pytest.fixture(params=["fake", "real"])
def running(request: pytest.FixtureRequest) -> tuple[str, TokenKey] | None:
    """Give a real Gatekeeper, or None for the fake."""
    if request.param == "fake":
        return None
    made: tuple[str, TokenKey] = request.getfixturevalue("gatekeeper")
    return made


@pytest.fixture
async def rig(running: tuple[str, TokenKey] | None) -> AsyncIterator[Rig]:
    if running is None:
        yield FakeRig()
        return
    url, key = running
    async with asking(url) as sessions:
        yield RealRig(sessions, url, key)


async def live(rig: Rig, name: str) -> list[str]:
    found = await rig.sessions.live(rig.token(name))
    assert not isinstance(found, Rejected)
    return [session.id for session in found]


async def test_sessions_are_live_from_their_begin_to_their_end(rig: Rig) -> None:
    assert await live(rig, "ada") == []
    first, second = await rig.begin("ada"), await rig.begin("ada")

    assert await live(rig, "ada") == [second, first]
    await rig.end("ada", first)
    assert await live(rig, "ada") == [second]


async def test_a_session_says_what_it_is_for(rig: Rig) -> None:
    session = await rig.begin("bob")

    found = await rig.sessions.live(rig.token("bob"))

    assert not isinstance(found, Rejected)
    (one,) = found
    assert (one.id, one.target, one.role) == (session, TARGET, "app_read")
    assert one.expires_at.endswith("Z")
    assert datetime.fromisoformat(one.expires_at).utcoffset() == timedelta()


async def test_nobody_has_the_sessions_of_another(rig: Rig) -> None:
    """Whoever may list all of them, as an operator, does not hold them."""
    await rig.begin("carl")

    assert await live(rig, "eve") == []


@pytest.mark.parametrize("text", ["unknown", "a.b.c"])
async def test_a_token_that_is_not_believed_is_rejected(rig: Rig, text: str) -> None:
    found = await rig.sessions.live(text)

    assert found == Rejected(401, "Gatekeeper does not take the token")


# What only a server can do


@pytest.fixture
async def server() -> AsyncIterator[BackendServer]:
    async with BackendServer.serving() as serving_now:
        yield serving_now


@pytest.fixture
async def sessions(server: BackendServer) -> AsyncIterator[GatekeeperSessions]:
    async with asking(server.url("")) as made:
        yield made


ASKED = "/sessions?status=ready&mine=true&limit=200"


def view(number: int, *, seconds: float = 600, **changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)  # noqa: TID251  # the server's own clock
    return {
        "sessionId": f"ses_{number}", "status": "ready", "target": "t", "role": "r",
        "requester": "x", "reason": "", "createdAt": now.isoformat(), "ttlSeconds": 600,
        "expiresAt": (now + timedelta(seconds=seconds)).isoformat(),
    } | changes  # fmt: skip


async def test_all_pages_are_read(server: BackendServer, sessions: GatekeeperSessions) -> None:
    server.answers(ASKED, reply(200, {"items": [view(1)], "next": "c&2"}))
    server.answers(f"{ASKED}&cursor=c%262", reply(200, {"items": [view(2)]}))

    found = await sessions.live("tok")

    assert not isinstance(found, Rejected)
    assert [one.id for one in found] == ["ses_1", "ses_2"]
    assert {received.headers["authorization"] for received in server.received} == {"Bearer tok"}


async def test_what_is_listed_and_cannot_be_used_is_not_live(
    server: BackendServer, sessions: GatekeeperSessions
) -> None:
    listed = [
        view(1, seconds=-1),
        view(2, status="pending"),
        view(3, expiresAt=None),
        view(4, expiresAt="2090-01-01T00:00:00"),
        view(5),
    ]
    server.answers(ASKED, reply(200, {"items": listed}))

    found = await sessions.live("tok")

    assert not isinstance(found, Rejected)
    assert [one.id for one in found] == ["ses_5"]


@pytest.mark.parametrize(
    ("scripted", "status"),
    [
        (reply(401), 401),
        (reply(403), 403),
        (reply(200, b"<html>"), 503),
        (reply(200, {"items": "x"}), 503),
        (reply(200, {"items": [{}]}), 503),
        (reply(200, []), 503),
        (reply(204), 503),
        (reply(302, location="/elsewhere"), 503),
        (reply(500), 503),
        (CUT, 503),
        (reply(200, b"x" * 2_000_000), 503),
    ],
)
async def test_an_answer_that_is_none_lets_nobody_in(
    server: BackendServer, sessions: GatekeeperSessions, scripted: Scripted, status: int
) -> None:
    server.answers(ASKED, scripted)

    found = await sessions.live("secret-token")

    assert isinstance(found, Rejected)
    assert found.status == status
    assert "secret" not in found.reason


async def test_a_list_without_an_end_is_no_answer(
    server: BackendServer, sessions: GatekeeperSessions
) -> None:
    server.answers(ASKED, reply(200, {"items": [], "next": "c"}))
    server.answers(f"{ASKED}&cursor=c", reply(200, {"items": [], "next": "c"}))

    assert isinstance(await sessions.live("tok"), Rejected)
    assert len(server.received) == MAX_PAGES


@pytest.mark.parametrize("text", ["", "a\r\nx-other: 1", "\x00"])
async def test_what_cannot_be_a_token_is_not_sent(
    server: BackendServer, sessions: GatekeeperSessions, text: str
) -> None:
    assert isinstance(await sessions.live(text), Rejected)
    assert server.received == []


async def test_a_gatekeeper_that_is_not_there_lets_nobody_in() -> None:
    async with asking("http://127.0.0.1:1") as sessions:
        found = await sessions.live("tok")

    assert isinstance(found, Rejected)
    assert found.status == 503


async def test_a_gatekeeper_that_says_nothing_lets_nobody_in(
    server: BackendServer, sessions: GatekeeperSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatekeeper.forwardauth.adapters.sessions.ASK_SECONDS", 0.2)
    server.answers(ASKED, HANG)

    found = await sessions.live("tok")

    assert isinstance(found, Rejected)
    assert "no answer within" in found.reason
