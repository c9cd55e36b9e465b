"""Prometheus metrics of a process, in a registry of its own."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)


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
        self.issue_seconds = Histogram(
            "gatekeeper_issue_seconds", "From request to ready.", buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.revocation_lag_seconds = Histogram(
            "gatekeeper_revocation_lag_seconds", "From the end of a session to its proof.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.live_sessions = Gauge(
            "gatekeeper_sessions", "Sessions that are not cleaned, by status.", ["status"],
            registry=self.registry,
        )  # fmt: skip

    def exposition(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)
