"""The same agent behind each transport, with what a test needs to disturb it."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes.provider import FakeProvider
from gatekeeper.databases.adapters.agents.executor import AgentExecutor, ServedTarget
from gatekeeper.databases.adapters.agents.gateway import AgentGateway
from gatekeeper.databases.adapters.agents.http import (
    BODY_LIMITS,
    Doorkeeper,
    agent_routes,
    mail_routes,
)
from gatekeeper.databases.adapters.agents.mailbox import CHANNEL, Mailbox
from gatekeeper.databases.adapters.agents.poller import Poller
from gatekeeper.databases.adapters.agents.transports import Fetched, HttpPush, InProcess
from gatekeeper.databases.model import ObjectPolicy, Session, Target
from gatekeeper.kernel import ids, scram
from gatekeeper.kernel.errors import ErrorCode, Refusal, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.http.app import make_app
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.queue import Backoff
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fastapi import FastAPI

    from gatekeeper.databases.adapters.agents.gateway import Transport

PLANE: Final = "plane"
AGENT: Final = "agent"
PLANE_KEY, AGENT_KEY, STRANGER = (
    Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3)
)
RANDOM: Final = SystemRandom()
BACKOFF: Final = Backoff(first=0.05, most=0.1)
PATIENCE_SECONDS: Final = 30.0
"""How long anything may take on a slow machine; nothing waits for it when all is well."""

TARGET: Final = Target(
    name="t",
    agent=AGENT,
    host="127.0.0.1",
    port=5432,
    database="shop",
    sslmode="disable",
    min_ttl=timedelta(seconds=1),
    max_ttl=timedelta(hours=4),
    roles=("app_read",),
)


@dataclass
class MovableClock:
    """The machine's clock, moved."""

    moved: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved  # noqa: TID251  # the world's own clock


@dataclass
class Wire:
    """Stands before a transport: keeps what passes, and loses or swaps answers."""

    transport: Transport
    sent: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    lose_answers: int = 0
    say_instead: str | None = None

    async def exchange(self, envelope: str) -> str:
        self.sent.append(envelope)
        self.answers.append(await self.transport.exchange(envelope))
        if self.lose_answers:
            self.lose_answers -= 1
            msg = "the answer was lost"
            raise UnavailableError(msg, ErrorCode.AGENT_UNREACHABLE)
        return self.say_instead or self.answers[-1]

    async def close(self) -> None:
        await self.transport.close()


class Rig(Protocol):
    """An agent that can be started, killed and reached."""

    async def start(self, executor: AgentExecutor) -> Transport: ...

    async def kill(self) -> None:
        """End the agent wherever it is, as a crash does."""
        ...

    async def close(self) -> None: ...


class InProcessRig:
    async def start(self, executor: AgentExecutor) -> Transport:
        return InProcess(executor)

    async def kill(self) -> None:
        """Whoever waits for it is killed with it."""

    async def close(self) -> None: ...


class PushRig:
    def __init__(self) -> None:
        self._running = AsyncExitStack()
        self._port = 0

    async def start(self, executor: AgentExecutor) -> Transport:
        app = application()
        app.include_router(agent_routes(executor))
        url = await self._running.enter_async_context(serving(app, port=self._port))
        self._port = int(url.rpartition(":")[2])
        return HttpPush(url)

    async def kill(self) -> None:
        await self._running.aclose()

    async def close(self) -> None:
        await self.kill()


class PollRig:
    def __init__(self, dsn: str, clock: MovableClock) -> None:
        self._dsn = dsn
        self._clock = clock
        self._running = AsyncExitStack()
        self._agent: asyncio.Task[None] | None = None
        self._plane: ControlPlane | None = None

    async def start(self, executor: AgentExecutor) -> Transport:
        if self._plane is None:
            self._plane = await self._running.enter_async_context(polled_at(self._dsn))
        poller = make_poller(self._plane.url, executor, clock=self._clock)
        self._agent = asyncio.create_task(poller.run(asyncio.Event()), name="poller")
        return Fetched(self._plane.mailbox, AGENT, seconds=PATIENCE_SECONDS)

    async def kill(self) -> None:
        if self._agent is not None:
            self._agent.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._agent

    async def close(self) -> None:
        await self.kill()
        await self._running.aclose()


@dataclass
class ControlPlane:
    """The part of a control plane that polling agents meet."""

    url: str
    mailbox: Mailbox
    pool: Pool


@asynccontextmanager
async def polled_at(
    dsn: str, *, port: int = 0, **agents: Ed25519PrivateKey
) -> AsyncIterator[ControlPlane]:
    pool = Pool(Secret(dsn), name="test-mail")
    mailbox = Mailbox(pool)
    heard = Listener(Secret(dsn), CHANNEL, mailbox.heard, name="test-mail")
    keys = {name: key.public_key() for name, key in (agents or {AGENT: AGENT_KEY}).items()}
    app = application()
    app.include_router(
        mail_routes(mailbox, Doorkeeper(name=PLANE, keys=keys, clock=MovableClock()))
    )
    await pool.open()
    listening = asyncio.create_task(heard.run(), name="listening")
    try:
        async with serving(app, port=port) as url:
            yield ControlPlane(url, mailbox, pool)
            mailbox.close()
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
        await pool.close()


def make_poller(url: str, executor: AgentExecutor, *, clock: MovableClock | None = None) -> Poller:
    return Poller(
        url=url,
        name=AGENT,
        key=AGENT_KEY,
        control_plane=PLANE,
        handle=executor.handle,
        backoff=BACKOFF,
        clock=clock or MovableClock(),
        random=RANDOM,
    )


class WatchedExecutor(AgentExecutor):
    """Says when it refused a message: whoever only polls cannot tell its control plane."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.refused = asyncio.Event()

    async def handle(self, envelope: str) -> str | Refusal:
        answer = await super().handle(envelope)
        if isinstance(answer, Refusal):
            self.refused.set()
        return answer


def make_executor(
    provider: FakeProvider,
    *,
    kind: type[WatchedExecutor] = WatchedExecutor,
    clock: MovableClock | None = None,
) -> WatchedExecutor:
    return kind(
        name=AGENT,
        key=AGENT_KEY,
        control_planes={PLANE: (PLANE_KEY.public_key(),)},
        targets={TARGET.name: ServedTarget(provider=provider, owned_objects=ObjectPolicy.DROP)},
        seen=ReplayGuard(),
        clock=clock or MovableClock(),
        random=RANDOM,
    )


@dataclass
class World:
    """A control plane's gateway, an agent, and what is between them."""

    rig: Rig
    executor: WatchedExecutor
    wire: Wire
    provider: FakeProvider
    gateway: AgentGateway
    sealer: SealingKey
    clock: MovableClock
    """The agent's."""

    async def restart_agent(self, kind: type[WatchedExecutor] = WatchedExecutor) -> None:
        """Kill the agent, and start one that remembers nothing."""
        await self.rig.kill()
        await self.wire.close()
        self.executor = make_executor(self.provider, kind=kind, clock=self.clock)
        self.wire.transport = await self.rig.start(self.executor)


@asynccontextmanager
async def world_over(transport: str, *, dsn: str, folder: Path) -> AsyncIterator[World]:
    provider, agents_clock, ours = FakeProvider(), MovableClock(), MovableClock()
    # A poll is signed with the clock of a machine that is right: the job is what comes late.
    rig = _rig(transport, dsn, ours)
    executor = make_executor(provider, clock=agents_clock)
    wire = Wire(await rig.start(executor))
    sealer = SealingKey.load_or_create(folder / "sealing.jwk")
    gateway = AgentGateway(
        name=PLANE,
        key=PLANE_KEY,
        agent_keys={AGENT: AGENT_KEY.public_key()},
        transports={AGENT: wire},
        seen=ReplayGuard(),
        sealer=sealer,
        clock=ours,
        random=RANDOM,
    )
    try:
        yield World(rig, executor, wire, provider, gateway, sealer, agents_clock)
    finally:
        provider.gate.set()
        await gateway.close()
        await rig.close()


def _rig(transport: str, dsn: str, clock: MovableClock) -> Rig:
    if transport == "poll":
        return PollRig(dsn, clock)
    return PushRig() if transport == "push" else InProcessRig()


def application() -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    return make_app(
        title="t", version="0", random=RANDOM, lifespan=lifespan, body_limits=BODY_LIMITS
    )


@asynccontextmanager
async def serving(app: FastAPI, *, port: int = 0) -> AsyncIterator[str]:
    """Serve in this loop; at the end, requests under way are cancelled."""
    config = uvicorn.Config(
        app, port=port, log_config=None, ws="none", lifespan="off", timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(), name="server")
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def new_session(**changes: Any) -> Session:
    session = ids.session_id(RANDOM.bytes(ids.RANDOM_BYTES))
    values: dict[str, Any] = {
        "id": session,
        "status": SessionStatus.PENDING,
        "requester": "dana",
        "requester_email": None,
        "target": TARGET.name,
        "role": "app_read",
        "reason": "why",
        "grant": "g",
        "username": ids.role_name(session),
        "ttl": timedelta(minutes=5),
        "max_ttl": timedelta(hours=1),
        "verifier": scram.make_verifier(Secret("x"), b"s" * scram.SALT_BYTES, 64),
        "sealed_password": None,
        "correlation_id": "cor",
        "created_at": datetime.now(UTC),  # noqa: TID251  # any time
        "ready_at": None,
        "expires_at": None,
        "ended_at": None,
        "cleaned_at": None,
        "error": None,
    }
    return Session(**(values | changes))
