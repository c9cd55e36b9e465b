"""What a control plane does beside its requests: count, and tell of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel import ids
from gatekeeper.kernel.audit import SYSTEM, Actor, AuditEvent, AuditKind
from gatekeeper.platform import queue
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.policy.holder import FIRST_GENERATION
from gatekeeper.platform.postgres import roles
from gatekeeper.terminals.model import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from gatekeeper.databases.model import Session
    from gatekeeper.kernel.audit import Json
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.postgres.pool import Pool
    from gatekeeper.platform.telemetry.metrics import Metrics
    from gatekeeper.terminals.jobs.retention import Looked
    from gatekeeper.terminals.model import Terminal

log = structlog.get_logger("gatekeeper.control_plane")

MAX_PROBLEMS: Final = 20
MAX_PROBLEM_CHARS: Final = 500
"""What an event tells of a policy that was not taken; the log has all of it."""


class Housekeeper:
    """Small duties of one process; each is harmless when several do it."""

    def __init__(self, *, pool: Pool, metrics: Metrics, clock: Clock, random: Random) -> None:
        self._pool = pool
        self._metrics = metrics
        self._clock = clock
        self._random = random

    async def ask_store(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("SELECT 1")

    async def refresh_metrics(self) -> None:
        """Read the gauges from the store, so that every replica shows the same."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT status, count(*) FROM gatekeeper.session"
                " WHERE status <> 'cleaned' GROUP BY status"
            )
            counts = await cursor.fetchall()
            cursor = await connection.execute(
                "SELECT status, count(*) FROM gatekeeper.terminal"
                " WHERE status <> 'cleaned' GROUP BY status"
            )
            terminals = await cursor.fetchall()
            cursor = await connection.execute(
                "SELECT name, extract(epoch FROM clock_timestamp() - seen_at)::float8"
                " FROM gatekeeper.terminal_runner"
            )
            runners = await cursor.fetchall()
            depths = await queue.depths(connection)
            backlog = await outbox.backlog(connection)
        self._metrics.audit_events.set(backlog.signed)
        self._metrics.audit_waiting.set(backlog.waiting)
        self._metrics.audit_lag.set(backlog.oldest)
        self._metrics.live_sessions.clear()
        self._metrics.queue_depth.clear()
        self._metrics.job_age.clear()
        for status, count in counts:
            self._metrics.live_sessions.labels(status).set(count)
        self._metrics.live_terminals.clear()
        for status, count in terminals:
            self._metrics.live_terminals.labels(status).set(count)
        self._metrics.last_report.clear()
        for runner, seconds in runners:
            self._metrics.last_report.labels(runner).set(seconds)
        for depth in depths:
            self._metrics.queue_depth.labels(depth.lane).set(depth.due)
            self._metrics.job_age.labels(depth.lane).set(depth.oldest)

    def job_finished(self, job: queue.ClaimedJob, outcome: queue.Outcome) -> None:
        result = outcome.code if isinstance(outcome, queue.Retry | queue.Dead) else "done"
        self._metrics.jobs.labels(job.kind, result).inc()

    def job_given_up(self, job: queue.DeadJob) -> None:
        self._metrics.dead_jobs.labels(job.kind).inc()

    def session_issued(self, session: Session) -> None:
        latency = session.issue_latency().total_seconds()
        self._metrics.issue_latency.labels(session.target).observe(latency)
        log.info(
            "session ready",
            session=session.id,
            target=session.target,
            seconds=latency,
            correlationId=session.correlation_id,
        )

    def session_cleaned(self, session: Session, access_cut_lag: timedelta) -> None:
        cut, lag = access_cut_lag.total_seconds(), session.cleanup_lag().total_seconds()
        self._metrics.revocation_lag.labels(session.target).observe(cut)
        self._metrics.cleanup_lag.labels(session.target).observe(lag)
        log.info(
            "session cleaned",
            session=session.id,
            target=session.target,
            lagSeconds=lag,
            correlationId=session.correlation_id,
        )

    def terminal_launched(self, terminal: Terminal) -> None:
        turn, ready = terminal.stages.get(Stage.SCHEDULED), terminal.ready_at
        if turn is None or ready is None:
            return
        seconds = (ready - turn).total_seconds()
        self._metrics.launch_latency.labels(terminal.runner).observe(seconds)
        log.info(
            "terminal ready",
            terminal=terminal.id,
            runner=terminal.runner,
            sandbox=terminal.sandbox,
            seconds=seconds,
            correlationId=terminal.correlation_id,
        )

    def terminal_cleaned(self, terminal: Terminal) -> None:
        if terminal.cleaned_at is None or terminal.ended_at is None:
            return
        lag = (terminal.cleaned_at - terminal.ended_at).total_seconds()
        self._metrics.terminal_lag.labels(terminal.runner).observe(lag)
        log.info(
            "terminal cleaned",
            terminal=terminal.id,
            runner=terminal.runner,
            lagSeconds=lag,
            correlationId=terminal.correlation_id,
        )

    def recordings_looked_at(self, looked: Looked) -> None:
        self._metrics.recording_bytes.set(looked.bytes)
        self._metrics.recordings_overdue.set(looked.overdue)
        self._metrics.recordings_deleted.inc(looked.deleted)

    async def started(
        self,
        version: str,
        *,
        name: str,
        keys: Mapping[str, str],
        agents: Mapping[str, str],
        runners: Mapping[str, str],
    ) -> None:
        """Tell with which keys this control plane signs, and which its agents and runners have.

        `agents` and `runners` are the `x` of their public JWKs: receipts are verified with these.
        """
        self._metrics.policy_generation.set(FIRST_GENERATION)
        async with self._pool.connection() as connection:
            protected = await roles.evidence_is_protected(connection)
        if not protected:
            log.warning(
                "the store's login could change the evidence: set up another with gk migrate"
            )
        await self._tell(
            AuditKind.CONTROL_PLANE_STARTED,
            version=version,
            name=name,
            keys=dict(keys),
            agents=dict(agents),
            runners=dict(runners),
            evidenceProtected=protected,
        )

    async def evidence_exported(self, principal: Principal, correlation_id: str) -> None:
        await self.record(
            AuditKind.EVIDENCE_EXPORTED,
            actor=Actor.of(principal),
            correlation_id=correlation_id,
        )

    async def policy_loaded(self, generation: int) -> None:
        await self._tell(AuditKind.POLICY_LOADED, generation=generation)
        self._metrics.policy_generation.set(generation)

    async def policy_rejected(self, problems: tuple[str, ...]) -> None:
        self._metrics.policy_reloads_failed.inc()
        told: list[Json] = [problem[:MAX_PROBLEM_CHARS] for problem in problems[:MAX_PROBLEMS]]
        await self._tell(AuditKind.POLICY_REJECTED, problems=told, count=len(problems))

    async def _tell(self, kind: AuditKind, **data: Json) -> None:
        correlation_id = ids.correlation_id(self._random.bytes(ids.RANDOM_BYTES))
        await self.record(kind, actor=SYSTEM, correlation_id=correlation_id, **data)

    async def record(
        self, kind: AuditKind, *, actor: Actor, correlation_id: str, **data: Json
    ) -> None:
        """Write an event that belongs to no plane."""
        event = AuditEvent(
            kind=kind,
            at=self._clock.now(),
            actor=actor,
            plane="kernel",
            correlation_id=correlation_id,
            data=data,
        )
        async with self._pool.connection() as connection, connection.transaction():
            await outbox.record(connection, event)
