"""The control plane's half of databases, wired: routes, jobs, and the way to the agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.bootstrap.agents import Reached, reach_agents
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
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.queue import Worker
from gatekeeper.wire.jobs import MAX_BATCH_JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from fastapi import APIRouter

    from gatekeeper.bootstrap.identity import Identity
    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.bootstrap.surroundings import Surroundings

    Work = Coroutine[object, object, None]

LANES: Final = {ISSUE: 64, END: 2048, CLEANUP: 8}
"""Jobs at a time of each lane: however many logins end at once, issuing has its own."""
BATCHES: Final = {ISSUE: 2}
"""Batches of one target under way: one is at the agent while the next is stored. Those that end
logins are all sent: the agent switches all of them off before it begins to drop."""

__all__ = ["BODY_LIMITS", "LANES", "Databases", "control_databases"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """The databases of a control plane, and what it runs for them."""

    routes: tuple[APIRouter, ...]
    background: Mapping[str, Callable[[], Work]]
    store: PostgresSessionStore
    service: SessionService
    watch: SessionWatch
    reached: Reached
    agents: AgentGateway
    cleaning: Cleaning

    async def begin(self) -> None:
        """Make the jobs that there always are."""
        await self.cleaning.schedule()

    def close_waiting(self) -> None:
        """End the requests that wait for something to happen."""
        self.watch.close()
        self.reached.close_polls()

    async def close(self) -> None:
        await self.agents.close()


def control_databases(
    settings: ControlPlaneSettings, around: Surroundings, identity: Identity
) -> Databases:
    """Wire databases: how callers ask, what is due, and who carries it out."""
    reached = reach_agents(settings, key=around.key, pool=around.job_pool, clock=around.clock)
    sealer = SealingKey.load_or_create(settings.key_folder / "sealing.jwk")
    agents = _agents(settings, around, reached, sealer)
    store = PostgresSessionStore(around.api_pool)
    service = _service(settings, around, store=store, agents=agents, sealer=sealer)
    watch = SessionWatch(store)
    cleaning = _cleaning(settings, around, agents)
    listener = Listener(settings.store_dsn, CHANNEL, watch.heard, name="gk-watch")
    aliases = mvp_routes(service=service, watch=watch, authenticate=identity.authenticate)
    return Databases(
        routes=(
            *([aliases] if settings.compat_mvp_api else []),
            *reached.routes,
            session_routes(service=service, watch=watch, authenticate=identity.authenticate),
            access_routes(service=service, authenticate=identity.authenticate),
            operator_routes(
                service=service,
                reconciler=ReconcileService(store=store, agents=agents),
                authenticate=identity.authenticate_costly,
            ),
        ),
        background={
            "dispatcher": _worker(settings, around, agents=agents, cleaning=cleaning).run,
            "session changes": listener.run,
            **reached.background,
        },
        store=store,
        service=service,
        watch=watch,
        reached=reached,
        agents=agents,
        cleaning=cleaning,
    )


def _agents(
    settings: ControlPlaneSettings, around: Surroundings, reached: Reached, sealer: SealingKey
) -> AgentGateway:
    return AgentGateway(
        name=settings.name,
        key=around.key.private,
        agent_keys=reached.keys,
        transports=reached.transports,
        seen=ReplayGuard(),
        sealer=sealer,
        clock=around.clock,
        random=around.random,
    )


def _service(
    settings: ControlPlaneSettings,
    around: Surroundings,
    *,
    store: PostgresSessionStore,
    agents: AgentGateway,
    sealer: SealingKey,
) -> SessionService:
    return SessionService(
        store=store,
        targets=settings.targets_by_name(),
        policies=around.policies,
        agents=agents,
        sealer=sealer,
        clock=around.clock,
        random=around.random,
        is_operator=around.is_operator,
    )


def _cleaning(
    settings: ControlPlaneSettings, around: Surroundings, agents: AgentGateway
) -> Cleaning:
    return Cleaning(
        store=PostgresSessionStore(around.job_pool),
        targets=settings.targets_by_name(),
        agents=agents,
        random=around.random,
    )


def _worker(
    settings: ControlPlaneSettings,
    around: Surroundings,
    *,
    agents: AgentGateway,
    cleaning: Cleaning,
) -> Worker:
    store, targets = PostgresSessionStore(around.job_pool), settings.targets_by_name()
    keeper = around.keeper
    issuing = Issuing(store=store, targets=targets, agents=agents, issued=keeper.session_issued)
    ending = Ending(store=store, targets=targets, agents=agents, cleaned=keeper.session_cleaned)
    return Worker(
        pool=around.job_pool,
        dsn=settings.store_dsn,
        lanes=LANES,
        handlers={ISSUE: handler(issuing), END: handler(ending), CLEANUP: handler(cleaning)},
        batch=MAX_BATCH_JOBS,
        batches=BATCHES,
        random=around.random,
        finished=keeper.job_finished,
        on_dead=keeper.job_given_up,
    )
