"""What forward auth tells about itself: decisions explained, rules tested. No value of it is
a credential: what is told went through the redaction.
"""

from __future__ import annotations

from typing import Any

from gatekeeper.wire.base import Response


class ExplainedStep(Response):
    """What one agent did."""

    agent: str
    subject: str
    result: str
    detail: dict[str, Any]


class ExplainedReads(Response):
    """What the expressions of a rule, or of the response, can read."""

    subject: str
    names: tuple[str, ...]


class ExplainedKeeping(Response):
    """Whether a result was kept, or would be, and why."""

    subject: str
    key: str | None = None
    """Made of everything the evaluation can read, with a secret of the configuration."""
    result: str


class ExplainedHeader(Response):
    name: str
    value: str
    """The value itself only where it is the same for every request."""


class ExplainedSkipped(Response):
    """A definition that is not in use."""

    kind: str
    name: str
    reason: str


class DecisionExplained(Response):
    """Why a request is answered as it is."""

    endpoint: str
    dialect: str
    outcome: str
    status: int
    """Of the answer; what a proxy can carry of it may be another."""
    reason: str
    origin: str
    generation: int
    headers: tuple[ExplainedHeader, ...] = ()
    steps: tuple[ExplainedStep, ...] = ()
    cache: tuple[ExplainedKeeping, ...] = ()
    reads: tuple[ExplainedReads, ...] = ()
    skipped: tuple[ExplainedSkipped, ...] = ()


class RecentDecision(Response):
    """A decision that was made a short while ago."""

    correlation_id: str
    endpoint: str
    dialect: str
    outcome: str
    status: int
    reason: str
    origin: str
    latency_ms: float
    generation: int


class RuleCase(Response):
    name: str
    file: str
    passed: bool
    problem: str | None = None


class RuleCasesReport(Response):
    """`passctrl test`."""

    passed: bool
    cases: tuple[RuleCase, ...]
