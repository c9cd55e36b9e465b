"""The control plane, wired: API, dispatcher and sequencer in one process.

It keeps nothing that matters in memory: any number may run on one store.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper import __version__
from gatekeeper.bootstrap.identity import Identity, make_identity
from gatekeeper.databases.adapters.agents.gateway import AgentGateway
from gatekeeper.databases.adapters.agents.transports import HttpPush
from gatekeeper.databases.adapters.dispatch import job_handlers
from gatekeeper.databases.adapters.store import CHANNEL, END, ISSUE, PostgresSessionStore
from gatekeeper.databases.jobs import SessionJobs
from gatekeeper.databases.reconcile import ReconcileService
from gatekeeper.databases.service import SessionService
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.kernel.identity import Principal

LANES: Final = {ISSUE: 16, END: 16}
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
    metrics: Metrics
