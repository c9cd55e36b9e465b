"""An agent, wired: providers for its targets behind one signed route."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from gatekeeper import __version__
from gatekeeper.databases.adapters.agents.executor import AgentExecutor, ServedTarget
from gatekeeper.databases.adapters.agents.http import agent_routes
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.signing import SigningKey, public_key
from gatekeeper.platform.http.app import make_app
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from gatekeeper.bootstrap.settings import AgentSettings


def agent_app(settings: AgentSettings) -> FastAPI:
    """Wire an agent that listens for jobs."""
    targets = {
        target.name: ServedTarget(
            provider=PostgreSQLProvider(target.dsn), owned_objects=target.owned_objects
        )
        for target in settings.targets
    }
    executor = agent_executor(settings, targets)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            for target in targets.values():
                closing.push_async_callback(target.provider.close)
            yield

    app = make_app(
        title="Gatekeeper agent", version=__version__, random=SystemRandom(), lifespan=lifespan
    )
    app.include_router(agent_routes(executor))
    return app


def agent_executor(settings: AgentSettings, targets: dict[str, ServedTarget]) -> AgentExecutor:
    """Wire the part of an agent that is the same over every transport."""
    return AgentExecutor(
        name=settings.name,
        key=SigningKey.load(settings.key_file).private,
        control_planes={name: (public_key(jwk),) for name, jwk in settings.control_planes.items()},
        targets=targets,
        seen=ReplayGuard(),
        clock=SystemClock(),
        random=SystemRandom(),
    )
