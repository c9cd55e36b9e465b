"""The control plane, wired: API, dispatcher and sequencer in one process.

It keeps nothing that matters in memory: any number may run on one store.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper import __version__
from gatekeeper.bootstrap.housekeeping import Housekeeper
from gatekeeper.bootstrap.identity import Identity, make_identity
from gatekeeper.databases.adapters.agents.gateway import AgentGateway
from gatekeeper.databases.adapters.agents.transports import HttpPush
from gatekeeper.databases.adapters.dispatch import handler
from gatekeeper.databases.adapters.store import CHANNEL, END, ISSUE, PostgresSessionStore
from gatekeeper.databases.jobs.ending import Ending
from gatekeeper.databases.jobs.issuing import Issuing
from gatekeeper.databases.reconcile import ReconcileService
from gatekeeper.databases.service import SessionService
from gatekeeper.databases.web.mvp import mvp_routes
from gatekeeper.databases.web.routes import operator_routes, session_routes
from gatekeeper.databases.web.watch import SessionWatch
from gatekeeper.platform.audit.reader import AuditReader
from gatekeeper.platform.audit.routes import audit_routes
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.crypto.signing import SigningKey, public_key
from gatekeeper.platform.http.app import make_app
from gatekeeper.platform.http.health import health_routes
from gatekeeper.platform.policy import PolicyHolder
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.queue import Worker
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.tasks import run_together
from gatekeeper.platform.telemetry.metrics import Metrics
from gatekeeper.wire.jobs import MAX_BATCH_JOBS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fastapi import APIRouter, FastAPI

    from gatekeeper.bootstrap.settings import ControlPlaneSettings

LANES: Final = {ISSUE: 64, END: 256}
"""Jobs at a time of each lane: however many logins end at once, issuing has its own."""
API_CONNECTIONS: Final = 24
JOB_CONNECTIONS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is built once and shared."""

    api_pool: Pool
    job_pool: Pool
    agents: AgentGateway
    watch: SessionWatch
    service: SessionService
    reconciler: ReconcileService
    worker: Worker
    sequencer: Sequencer
    listener: Listener
    policies: PolicyHolder
    identity: Identity
    evidence: AuditReader
    keeper: Housekeeper
    metrics: Metrics


def control_plane_app(settings: ControlPlaneSettings, *, stop: Callable[[], None]) -> FastAPI:
    """Wire a control plane. `stop` ends the process when a part of it cannot go on.

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
            await parts.keeper.started(__version__)
            background = {
                "dispatcher": parts.worker.run(),
                "sequencer": parts.sequencer.run(),
                "session changes": parts.listener.run(),
                "policy": parts.policies.run(),
            }
            async with run_together(background, failed=lambda _name: stop()):
                yield
                parts.watch.close()

    app = make_app(
        title="Gatekeeper", version=__version__, random=SystemRandom(), lifespan=lifespan
    )
    for router in _routers(parts, mvp=settings.compat_mvp_api):
        app.include_router(router)
    return app


def _build(settings: ControlPlaneSettings) -> _Parts:
    clock, random = SystemClock(), SystemRandom()
    key = SigningKey.load_or_create(settings.key_folder / "control-plane.jwk")
    evidence_key = SigningKey.load_or_create(settings.key_folder / "evidence.jwk")
    sealer = SealingKey.load_or_create(settings.key_folder / "sealing.jwk")
    api_pool = Pool(settings.store_dsn, name="gk-api", max_size=API_CONNECTIONS)
    job_pool = Pool(settings.store_dsn, name="gk-jobs", max_size=JOB_CONNECTIONS)
    store = PostgresSessionStore(api_pool)
    job_store = PostgresSessionStore(job_pool)
    targets = {target.name: target.target() for target in settings.targets}
    agents = AgentGateway(
        name=settings.name,
        key=key.private,
        agent_keys={name: public_key(a.public_key) for name, a in settings.agents.items()},
        transports={name: HttpPush(a.url) for name, a in settings.agents.items()},
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
        is_operator=lambda principal: bool(principal.groups & settings.operator_groups),
    )
    watch = SessionWatch(store)
    return _Parts(
        api_pool=api_pool,
        job_pool=job_pool,
        agents=agents,
        watch=watch,
        service=service,
        reconciler=ReconcileService(store=store, agents=agents),
        worker=Worker(
            pool=job_pool,
            dsn=settings.store_dsn,
            lanes=LANES,
            handlers={
                ISSUE: handler(Issuing(store=job_store, targets=targets, agents=agents)),
                END: handler(Ending(store=job_store, targets=targets, agents=agents)),
            },
            batch=MAX_BATCH_JOBS,
            random=random,
            finished=keeper.job_finished,
            on_dead=keeper.job_given_up,
        ),
        sequencer=Sequencer(pool=job_pool, dsn=settings.store_dsn, key=evidence_key, clock=clock),
        listener=Listener(settings.store_dsn, CHANNEL, watch.heard, name="gk-watch"),
        policies=policies,
        identity=make_identity(settings, clock=clock, random=random),
        evidence=AuditReader(api_pool, public_key=evidence_key.public_jwk()),
        keeper=keeper,
        metrics=metrics,
    )


def _routers(parts: _Parts, *, mvp: bool) -> list[APIRouter]:
    authenticate = parts.identity.authenticate
    aliases = mvp_routes(service=parts.service, watch=parts.watch, authenticate=authenticate)
    return [
        *([aliases] if mvp else []),
        *parts.identity.routes,
        session_routes(service=parts.service, watch=parts.watch, authenticate=authenticate),
        operator_routes(
            service=parts.service, reconciler=parts.reconciler, authenticate=authenticate
        ),
        audit_routes(parts.evidence, authenticate=authenticate, may_read=parts.service.sees_all),
        health_routes(
            version=__version__,
            neighbours={"store": parts.keeper.ask_store},
            metrics=parts.metrics,
            refresh=parts.keeper.refresh_metrics,
        ),
    ]
