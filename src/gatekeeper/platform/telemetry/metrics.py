"""Prometheus metrics of a process, in a registry of its own."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

ISSUE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 6.0, 15.0, 60.0)
"""Seconds; a login is promised in less than 6, and fails after 60."""
LAG_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 120.0, 600.0, 3600.0)
"""Seconds; an end is promised within 120, and goes on for as long as a target is away."""


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
        self.issue_latency = Histogram(
            "gatekeeper_issue_seconds", "From the request to the usable login, by target.",
            ["target"], buckets=ISSUE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.revocation_lag = Histogram(
            "gatekeeper_revocation_lag_seconds",
            "From a session's end until its last connection was gone, by target.",
            ["target"], buckets=LAG_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.cleanup_lag = Histogram(
            "gatekeeper_cleanup_lag_seconds",
            "From a session's end until its login was proven gone, by target.",
            ["target"], buckets=LAG_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.live_terminals = Gauge(
            "gatekeeper_terminals", "Terminals that are not cleaned, by status.", ["status"],
            registry=self.registry,
        )  # fmt: skip
        self.last_report = Gauge(
            "gatekeeper_runner_last_report_seconds", "Since a runner was heard, by runner.",
            ["runner"], registry=self.registry,
        )  # fmt: skip
        self.launch_latency = Histogram(
            "gatekeeper_terminal_launch_seconds",
            "From a terminal's turn until it took clients, by runner.",
            ["runner"], buckets=ISSUE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.terminal_lag = Histogram(
            "gatekeeper_terminal_cleanup_lag_seconds",
            "From a terminal's end until it was proven gone, by runner.",
            ["runner"], buckets=LAG_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.recording_bytes = Gauge(
            "gatekeeper_recordings_bytes", "What recordings hold on the disk.",
            registry=self.registry,
        )  # fmt: skip
        self.recordings_overdue = Gauge(
            "gatekeeper_recordings_overdue", "Recordings kept beyond their time: alarm on any.",
            registry=self.registry,
        )  # fmt: skip
        self.recordings_deleted = Counter(
            "gatekeeper_recordings_deleted", "Recordings deleted because their time was over.",
            registry=self.registry,
        )  # fmt: skip

    def exposition(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)
