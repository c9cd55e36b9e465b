"""The control plane, wired: API, dispatcher and sequencer in one process.

It keeps nothing that matters in memory: any number may run on one store.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatekeeper import __version__
from gatekeeper.bootstrap import databases
from gatekeeper.bootstrap.console import Console, make_console
from gatekeeper.bootstrap.databases import Databases, control_databases
from gatekeeper.bootstrap.identity import Identity, make_identity
from gatekeeper.bootstrap.surroundings import Surroundings, surround
from gatekeeper.bootstrap.terminals import controlling
from gatekeeper.bootstrap.terminals.controlling import Terminals, control_terminals
from gatekeeper.bootstrap.terminals.logins import DatabaseLogins
from gatekeeper.bootstrap.terminals.ticket_keys import ticket_keys
from gatekeeper.platform.audit.reader import AuditReader
from gatekeeper.platform.audit.routes import audit_routes
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.crypto.signing import public_jwk, public_key
from gatekeeper.platform.http.app import make_app
from gatekeeper.platform.http.health import health_routes
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.tasks import run_together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from fastapi import APIRouter, FastAPI

    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.terminals.adapters.tickets import TicketKeys

    Work = Coroutine[object, object, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What a control plane is made of."""

    around: Surroundings
    console: Console
    identity: Identity
    databases: Databases
    terminals: Terminals | None
    sequencer: Sequencer

    @property
    def planes(self) -> tuple[Databases | Terminals, ...]:
        return (self.databases,) if self.terminals is None else (self.databases, self.terminals)

    def background(self) -> Mapping[str, Callable[[], Work]]:
        """Return what runs beside the requests, for as long as the process does."""
        own = {
            "sequencer": self.sequencer.run,
            "policy": self.around.policies.run,
            "clock": self.around.clock.run,
        }
        return own | {name: run for plane in self.planes for name, run in plane.background.items()}

    def close_waiting(self) -> None:
        """End the requests that wait for something to happen."""
        for plane in self.planes:
            plane.close_waiting()


def control_plane_app(settings: ControlPlaneSettings, *, stop: Callable[[], None]) -> FastAPI:
    """Wire a control plane. `stop` ends the process when a part of it cannot go on.

    Its server calls `state.close_waiting` when it is told to stop, before it waits for requests.
    Raises `InputError` for settings or a policy that cannot be used.
    """
    parts = _build(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            await _begin(parts, closing)
            await parts.around.keeper.started(__version__, **_signers(settings, parts))
            background = {name: run() for name, run in parts.background().items()}
            async with run_together(background, failed=lambda _name: stop()):
                yield

    app = make_app(
        title="Gatekeeper",
        version=__version__,
        random=SystemRandom(),
        lifespan=lifespan,
        body_limits={**databases.BODY_LIMITS, **controlling.BODY_LIMITS},
    )
    app.state.close_waiting = parts.close_waiting
    for router in _routers(parts):
        app.include_router(router)
    return app


def _build(settings: ControlPlaneSettings) -> _Parts:
    around = surround(settings)
    tickets = None if settings.terminals is None else ticket_keys(settings.key_folder)
    console = make_console(settings, pool=around.api_pool, clock=around.clock, random=around.random)
    identity = _identity(settings, around, console, tickets)
    plane = control_databases(settings, around, identity)
    return _Parts(
        around=around,
        console=console,
        identity=identity,
        databases=plane,
        terminals=_terminals(settings, around, identity, plane, tickets),
        sequencer=Sequencer(
            pool=around.job_pool,
            dsn=settings.store_dsn,
            key=around.evidence_key,
            clock=around.clock,
        ),
    )


def _identity(
    settings: ControlPlaneSettings,
    around: Surroundings,
    console: Console,
    tickets: TicketKeys | None,
) -> Identity:
    return make_identity(
        settings,
        clock=around.clock,
        random=around.random,
        per_minute=lambda: around.policies.current().limits.requests_per_minute,
        record=around.keeper.record,
        of_page=console.of_page,
        other_keys=tuple if tickets is None else tickets.jwks,
    )


def _terminals(
    settings: ControlPlaneSettings,
    around: Surroundings,
    identity: Identity,
    plane: Databases,
    tickets: TicketKeys | None,
) -> Terminals | None:
    if tickets is None:
        return None
    return control_terminals(
        settings,
        around,
        authenticate=identity.authenticate,
        tickets=tickets,
        logins=DatabaseLogins(service=plane.service, store=plane.store, watch=plane.watch),
    )


async def _begin(parts: _Parts, closing: AsyncExitStack) -> None:
    """Open what is to be closed in the end, and make the jobs that there always are."""
    for pool in (parts.around.api_pool, parts.around.job_pool):
        await pool.open()
        closing.push_async_callback(pool.close)
    for plane in parts.planes:
        closing.push_async_callback(plane.close)
    await parts.around.clock.read()
    for plane in parts.planes:
        await plane.begin()


def _signers(settings: ControlPlaneSettings, parts: _Parts) -> dict[str, Any]:
    """Say who signs what: from here on the evidence can be held against these keys."""
    agents = parts.databases.reached.keys
    runners = {} if settings.terminals is None else settings.terminals.runners
    return {
        "name": settings.name,
        "keys": {
            "messages": parts.around.key.key_id,
            "evidence": parts.around.evidence_key.key_id,
        },
        "agents": {name: json.loads(public_jwk(key))["x"] for name, key in agents.items()},
        "runners": {
            name: json.loads(public_jwk(public_key(runner.public_key)))["x"]
            for name, runner in runners.items()
        },
    }


def _routers(parts: _Parts) -> list[APIRouter]:
    around, identity = parts.around, parts.identity
    return [
        *identity.routes,
        *(() if parts.terminals is None else parts.terminals.routes),
        *parts.console.routes(identity),
        *parts.databases.routes,
        audit_routes(
            AuditReader(around.api_pool, public_key=around.evidence_key.public_jwk()),
            authenticate=identity.authenticate,
            authenticate_costly=identity.authenticate_costly,
            may_read=parts.databases.service.sees_all,
            exported=around.keeper.evidence_exported,
        ),
        health_routes(
            version=__version__,
            neighbours={"store": around.keeper.ask_store},
            metrics=around.metrics,
            refresh=around.keeper.refresh_metrics,
        ),
    ]
