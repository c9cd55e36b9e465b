"""Prometheus metrics of a process, in a registry of its own."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What a control plane counts. Names are documented in docs/reference/metrics.md."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter(
            "gatekeeper_jobs", "Jobs by kind and result.", ["kind", "result"],
            registry=self.registry,
        )  # fmt: skip
        self.dead_jobs = Counter(
            "gatekeeper_jobs_dead", "Jobs that were given up: alarm on any.", ["kind"],
            registry=self.registry,
        )  # fmt: skip
        self.queue_depth = Gauge(
            "gatekeeper_queue_depth", "Jobs that are due, by lane.", ["lane"],
            registry=self.registry,
        )  # fmt: skip
        self.job_age = Gauge(
            "gatekeeper_queue_oldest_due_seconds", "Age of the oldest due job, by lane.", ["lane"],
            registry=self.registry,
        )  # fmt: skip
        self.live_sessions = Gauge(
            "gatekeeper_sessions", "Sessions that are not cleaned, by status.", ["status"],
            registry=self.registry,
        )  # fmt: skip
        self.policy_generation = Gauge(
            "gatekeeper_policy_generation", "How many policies this process has taken.",
            registry=self.registry,
        )  # fmt: skip
        self.policy_reloads_failed = Counter(
            "gatekeeper_policy_reload_failed", "Changed policies not taken: alarm on any.",
            registry=self.registry,
        )  # fmt: skip
        self.audit_events = Gauge(
            "gatekeeper_audit_events", "Events in the signed chain.", registry=self.registry
        )
        self.audit_waiting = Gauge(
            "gatekeeper_audit_waiting", "Events not in the chain yet.", registry=self.registry
        )
        self.audit_lag = Gauge(
            "gatekeeper_audit_oldest_waiting_seconds", "Age of the oldest of them.",
            registry=self.registry,
        )  # fmt: skip

    def exposition(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)
