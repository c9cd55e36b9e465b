"""The control plane, wired: API, dispatcher and sequencer in one process.

It keeps nothing that matters in memory: any number may run on one store.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gatekeeper import __version__
from gatekeeper.bootstrap.agents import Reached, reach_agents
from gatekeeper.bootstrap.console import Console, make_console
from gatekeeper.bootstrap.housekeeping import Housekeeper
from gatekeeper.bootstrap.identity import Identity, make_identity
from gatekeeper.bootstrap.terminals import controlling
from gatekeeper.bootstrap.terminals.controlling import (
    Surroundings,
    Terminals,
    control_terminals,
)
from gatekeeper.bootstrap.terminals.logins import DatabaseLogins
from gatekeeper.bootstrap.terminals.ticket_keys import ticket_keys
from gatekeeper.databases.adapters.agents.gateway import AgentGateway
from gatekeeper.databases.adapters.agents.http import BODY_LIMITS
from gatekeeper.databases.adapters.dispatch import handler
from gatekeeper.databases.adapters.store import CHANNEL, CLEANUP, END, ISSUE, PostgresSessionStore
from gatekeeper.databases.jobs.cleaning import Cleaning
from gatekeeper.databases.jobs.ending import Ending
from gatekeeper.databases.jobs.issuing import Issuing
from gatekeeper.databases.reconcile import ReconcileService
from gatekeeper.databases.service import SessionService
from gatekeeper.databases.web.mvp import mvp_routes
from gatekeeper.databases.web.routes import access_routes, operator_routes, session_routes
from gatekeeper.databases.web.watch import SessionWatch
from gatekeeper.platform.audit.reader import AuditReader
from gatekeeper.platform.audit.routes import audit_routes
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.crypto.signing import SigningKey, public_jwk, public_key
from gatekeeper.platform.http.app import make_app
from gatekeeper.platform.http.health import health_routes
from gatekeeper.platform.policy import PolicyHolder
from gatekeeper.platform.postgres.clock import StoreClock
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.queue import Worker
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.tasks import run_together
from gatekeeper.platform.telemetry.metrics import Metrics
from gatekeeper.wire.jobs import MAX_BATCH_JOBS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from fastapi import APIRouter, FastAPI

    from gatekeeper.bootstrap.settings import ControlPlaneSettings

    Work = Coroutine[object, object, None]

LANES: Final = {ISSUE: 64, END: 2048, CLEANUP: 8}
"""Jobs at a time of each lane: however many logins end at once, issuing has its own."""
BATCHES: Final = {ISSUE: 2}
"""Batches of one target under way: one is at the agent while the next is stored. Those that end
logins are all sent: the agent switches all of them off before it begins to drop."""
API_CONNECTIONS: Final = 24
JOB_CONNECTIONS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is built once and shared."""

    api_pool: Pool
    job_pool: Pool
    reached: Reached
    clock: StoreClock
    agents: AgentGateway
    watch: SessionWatch
    service: SessionService
    reconciler: ReconcileService
    cleaning: Cleaning
    worker: Worker
    sequencer: Sequencer
    listener: Listener
    policies: PolicyHolder
    identity: Identity
    console: Console
    evidence: AuditReader
    keeper: Housekeeper
    metrics: Metrics
    terminals: Terminals | None

    def background(self) -> Mapping[str, Callable[[], Work]]:
        """Return what runs beside the requests, for as long as the process does."""
        return {
            "dispatcher": self.worker.run,
            "sequencer": self.sequencer.run,
            "session changes": self.listener.run,
            "policy": self.policies.run,
            "clock": self.clock.run,
            **self.reached.background,
            **({} if self.terminals is None else self.terminals.background),
        }

    def close_waiting(self) -> None:
        """End the requests that wait for something to happen."""
        self.watch.close()
        self.reached.close_polls()
        if self.terminals is not None:
            self.terminals.close_waiting()


def control_plane_app(settings: ControlPlaneSettings, *, stop: Callable[[], None]) -> FastAPI:
    """Wire a control plane. `stop` ends the process when a part of it cannot go on.

    Its server calls `state.close_waiting` when it is told to stop, before it waits for requests.
    Raises `InputError` for settings or a policy that cannot be used.
    """
    parts = _build(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            for pool in (parts.api_pool, parts.job_pool):
                await pool.open()
                closing.push_async_callback(pool.close)
            closing.push_async_callback(parts.agents.close)
            if parts.terminals is not None:
                closing.push_async_callback(parts.terminals.close)
            await parts.clock.read()
            await parts.cleaning.schedule()
            if parts.terminals is not None:
                await parts.terminals.begin()
            await parts.keeper.started(__version__, **_signers(settings, parts.reached))
            background = {name: run() for name, run in parts.background().items()}
            async with run_together(background, failed=lambda _name: stop()):
                yield

    app = make_app(
        title="Gatekeeper",
        version=__version__,
        random=SystemRandom(),
        lifespan=lifespan,
        body_limits={**BODY_LIMITS, **controlling.BODY_LIMITS},
    )
    app.state.close_waiting = parts.close_waiting
    for router in _routers(parts, mvp=settings.compat_mvp_api):
        app.include_router(router)
    return app


def _build(settings: ControlPlaneSettings) -> _Parts:
    random = SystemRandom()
    key = SigningKey.load_or_create(settings.key_folder / "control-plane.jwk")
    evidence_key = SigningKey.load_or_create(settings.key_folder / "evidence.jwk")
    sealer = SealingKey.load_or_create(settings.key_folder / "sealing.jwk")
    api_pool = Pool(settings.store_dsn, name="gk-api", max_size=API_CONNECTIONS)
    job_pool = Pool(settings.store_dsn, name="gk-jobs", max_size=JOB_CONNECTIONS)
    clock = StoreClock(job_pool)
    store = PostgresSessionStore(api_pool)
    job_store = PostgresSessionStore(job_pool)
    targets = settings.targets_by_name()
    reached = reach_agents(settings, key=key, pool=job_pool, clock=clock)
    agents = AgentGateway(
        name=settings.name,
        key=key.private,
        agent_keys=reached.keys,
        transports=reached.transports,
        seen=ReplayGuard(),
        sealer=sealer,
        clock=clock,
        random=random,
    )
    metrics = Metrics()
    keeper = Housekeeper(pool=job_pool, metrics=metrics, clock=clock, random=random)
    policies = PolicyHolder(
        settings.policy, loaded=keeper.policy_loaded, rejected=keeper.policy_rejected
    )
    service = SessionService(
        store=store,
        targets=targets,
        policies=policies,
        agents=agents,
        sealer=sealer,
        clock=clock,
        random=random,
        is_operator=settings.is_operator,
    )
    console = make_console(settings, pool=api_pool, clock=clock, random=random)
    tickets = None if settings.terminals is None else ticket_keys(settings.key_folder)
    identity = make_identity(
        settings,
        clock=clock,
        random=random,
        per_minute=lambda: policies.current().limits.requests_per_minute,
        record=keeper.record,
        of_page=console.of_page,
        other_keys=tuple if tickets is None else tickets.jwks,
    )
    watch = SessionWatch(store)
    cleaning = Cleaning(store=job_store, targets=targets, agents=agents, random=random)
    return _Parts(
        api_pool=api_pool,
        job_pool=job_pool,
        reached=reached,
        clock=clock,
        agents=agents,
        watch=watch,
        service=service,
        reconciler=ReconcileService(store=store, agents=agents),
        cleaning=cleaning,
        worker=_worker(
            settings,
            store=job_store,
            agents=agents,
            cleaning=cleaning,
            keeper=keeper,
            pool=job_pool,
        ),
        sequencer=Sequencer(pool=job_pool, dsn=settings.store_dsn, key=evidence_key, clock=clock),
        listener=Listener(settings.store_dsn, CHANNEL, watch.heard, name="gk-watch"),
        policies=policies,
        identity=identity,
        console=console,
        evidence=AuditReader(api_pool, public_key=evidence_key.public_jwk()),
        keeper=keeper,
        metrics=metrics,
        terminals=None
        if tickets is None
        else control_terminals(
            settings,
            Surroundings(
                key=key,
                api_pool=api_pool,
                job_pool=job_pool,
                clock=clock,
                random=random,
                policies=policies,
                authenticate=identity.authenticate,
                keeper=keeper,
                is_operator=settings.is_operator,
            ),
            tickets=tickets,
            logins=DatabaseLogins(service=service, store=store, watch=watch),
        ),
    )


def _worker(
    settings: ControlPlaneSettings,
    *,
    store: PostgresSessionStore,
    agents: AgentGateway,
    cleaning: Cleaning,
    keeper: Housekeeper,
    pool: Pool,
) -> Worker:
    targets = settings.targets_by_name()
    issuing = Issuing(store=store, targets=targets, agents=agents, issued=keeper.session_issued)
    ending = Ending(store=store, targets=targets, agents=agents, cleaned=keeper.session_cleaned)
    return Worker(
        pool=pool,
        dsn=settings.store_dsn,
        lanes=LANES,
        handlers={ISSUE: handler(issuing), END: handler(ending), CLEANUP: handler(cleaning)},
        batch=MAX_BATCH_JOBS,
        batches=BATCHES,
        random=SystemRandom(),
        finished=keeper.job_finished,
        on_dead=keeper.job_given_up,
    )


def _signers(settings: ControlPlaneSettings, reached: Reached) -> dict[str, Any]:
    """Say who signs what: from here on the evidence can be held against these keys."""
    runners = {} if settings.terminals is None else settings.terminals.runners
    files = {"messages": "control-plane.jwk", "evidence": "evidence.jwk"}
    return {
        "name": settings.name,
        "keys": {use: SigningKey.load(settings.key_folder / f).key_id for use, f in files.items()},
        "agents": {name: json.loads(public_jwk(key))["x"] for name, key in reached.keys.items()},
        "runners": {
            name: json.loads(public_jwk(public_key(runner.public_key)))["x"]
            for name, runner in runners.items()
        },
    }


def _routers(parts: _Parts, *, mvp: bool) -> list[APIRouter]:
    authenticate = parts.identity.authenticate
    aliases = mvp_routes(service=parts.service, watch=parts.watch, authenticate=authenticate)
    return [
        *([aliases] if mvp else []),
        *parts.identity.routes,
        *parts.reached.routes,
        *(() if parts.terminals is None else parts.terminals.routes),
        *parts.console.routes(parts.identity),
        session_routes(service=parts.service, watch=parts.watch, authenticate=authenticate),
        access_routes(service=parts.service, authenticate=authenticate),
        operator_routes(
            service=parts.service,
            reconciler=parts.reconciler,
            authenticate=parts.identity.authenticate_costly,
        ),
        audit_routes(
            parts.evidence,
            authenticate=authenticate,
            authenticate_costly=parts.identity.authenticate_costly,
            may_read=parts.service.sees_all,
            exported=parts.keeper.evidence_exported,
        ),
        health_routes(
            version=__version__,
            neighbours={"store": parts.keeper.ask_store},
            metrics=parts.metrics,
            refresh=parts.keeper.refresh_metrics,
        ),
    ]
