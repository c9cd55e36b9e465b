"""An agent, wired: providers for its targets behind signed envelopes, pushed or fetched."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from gatekeeper import __version__
from gatekeeper.databases.adapters.agents.executor import AgentExecutor, ServedTarget
from gatekeeper.databases.adapters.agents.http import agent_routes
from gatekeeper.databases.adapters.agents.poller import Poller
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.signing import SigningKey, public_key
from gatekeeper.platform.http.app import make_app
from gatekeeper.platform.queue import Backoff
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.tasks import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from fastapi import FastAPI

    from gatekeeper.bootstrap.settings import AgentSettings
    from gatekeeper.databases.settings import AgentTargetSettings

SWEEP_SECONDS: Final = 30.0
MOST_PAUSE_SECONDS: Final = 5.0
"""Between polls while the control plane is away: a session waits no longer than that for it."""


def agent_app(settings: AgentSettings) -> FastAPI:
    """Wire an agent that listens for jobs."""
    executor = _executor(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            async with _sweeping(executor):
                yield
        finally:
            await executor.close()

    app = make_app(
        title="Gatekeeper agent", version=__version__, random=SystemRandom(), lifespan=lifespan
    )
    app.include_router(agent_routes(executor))
    return app


async def poll_for_jobs(settings: AgentSettings) -> None:
    """Run an agent that dials out, until SIGTERM or SIGINT; what it began it finishes."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    executor = _executor(settings)
    (control_plane,) = settings.control_planes
    poller = Poller(
        url=settings.control_plane_url or "",
        name=settings.name,
        key=SigningKey.load(settings.key_file).private,
        control_plane=control_plane,
        handle=executor.handle,
        backoff=Backoff(first=settings.poll_interval_ms / 1000, most=MOST_PAUSE_SECONDS),
        clock=SystemClock(),
        random=SystemRandom(),
    )
    try:
        async with _sweeping(executor):
            await poller.run(stopping)
    finally:
        await executor.close()


@asynccontextmanager
async def _sweeping(executor: AgentExecutor) -> AsyncIterator[None]:
    """Sweep the targets now and then: logins end also where no control plane is left to ask."""

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await executor.sweep()

    supervisor = Supervisor(failed=lambda _name: None)
    supervisor.start_again("sweep", sweep)
    try:
        yield
    finally:
        await supervisor.stop()


def _executor(settings: AgentSettings) -> AgentExecutor:
    return agent_executor(
        name=settings.name,
        key=SigningKey.load(settings.key_file).private,
        control_planes={name: public_key(jwk) for name, jwk in settings.control_planes.items()},
        targets=settings.targets,
    )


def agent_executor(
    *,
    name: str,
    key: Ed25519PrivateKey,
    control_planes: Mapping[str, Ed25519PublicKey],
    targets: Sequence[AgentTargetSettings],
) -> AgentExecutor:
    """Wire the part of an agent that is the same over every transport."""
    return AgentExecutor(
        name=name,
        key=key,
        control_planes={name: (key,) for name, key in control_planes.items()},
        targets={
            target.name: ServedTarget(
                provider=PostgreSQLProvider(target.dsn), owned_objects=target.owned_objects
            )
            for target in targets
        },
        seen=ReplayGuard(),
        clock=SystemClock(),
        random=SystemRandom(),
    )
