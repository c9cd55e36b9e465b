"""What commands print with `--json` where no route answers (docs/reference/cli-json.md)."""

from __future__ import annotations

from typing import Literal

from gatekeeper.wire.base import Response
from gatekeeper.wire.sessions import SessionView


class CreatedSession(SessionView):
    """`gk session create`: the session, and the one time its DSN is shown."""

    dsn: str


class FirstBroken(Response):
    seq: int
    what: str


class RecordingCheck(Response):
    """Whether a recording is what the evidence says of it."""

    file: str
    terminal_id: str | None = None
    segments: int
    whole: bool
    problem: str | None = None
    deleted_at: str | None = None
    """When the server's own was deleted."""
    deleted_by: str | None = None
    """Why: `retention`."""


class VerifyReport(Response):
    """`gk audit verify`: whether the chain is whole; if not, which event was touched first."""

    whole: bool
    events: int
    signed: int
    """How many of them are whole and covered by a signed checkpoint."""
    receipts: int
    """How many events hold a good receipt of an agent or a runner."""
    head: str
    key_id: str
    agent_key_ids: tuple[str, ...]
    runner_key_ids: tuple[str, ...]
    first_broken: FirstBroken | None = None
    recording: RecordingCheck | None = None
    """With `--recording`."""


class ExportReport(Response):
    """`gk audit export`."""

    file: str
    lines: int


class BootstrapStep(Response):
    database: str
    name: str
    sql: str | None = None
    """With `--sql`."""


class BootstrapReport(Response):
    """`gk target bootstrap`: what a target still needed, and whether it was done."""

    applied: bool
    steps: tuple[BootstrapStep, ...]
    agent_dsn: str | None = None
    """Shown once, when something was changed."""


class MigrateReport(Response):
    """`gk migrate`: the files that were applied, in order."""

    applied: tuple[str, ...]


class SandboxTier(Response):
    name: str
    works: bool
    detail: str
    """Why it does not work, where it does not."""
    gaps: tuple[str, ...] = ()
    """What it does not hold on this machine."""


class MachineReport(Response):
    """`gk doctor`: whether terminals can run here, and in what."""

    terminals: bool
    sandboxes: tuple[SandboxTier, ...]


class PolicyFinding(Response):
    """Something to mend in a policy that can be read: where it stands, and how."""

    code: str
    rule: str
    file: str
    line: int
    what: str
    fix: str


class PolicyProblems(Response):
    """`gk policy validate`: every problem as text; what was found in the rules also in parts."""

    valid: bool
    problems: tuple[str, ...]
    findings: tuple[PolicyFinding, ...] = ()


class PolicyCase(Response):
    name: str
    passed: bool
    problem: str | None = None


class PolicyTestReport(Response):
    """`gk policy test`."""

    passed: bool
    cases: tuple[PolicyCase, ...]


class ForwardAuthProblem(Response):
    """Something wrong with a configuration of forward auth."""

    place: str
    """`file:line`, or `environment` and a variable."""
    key: str
    message: str
    near: str | None = None
    """The nearest known name."""


class ForwardAuthCheck(Response):
    """`passctrl check`."""

    valid: bool
    problems: tuple[ForwardAuthProblem, ...]


class ForwardAuthFinding(Response):
    """What is wrong with a gate, seen from outside."""

    code: str
    severity: Literal["high", "medium", "note"]
    what: str
    sent: str
    """The credential is never in it."""
    got: str
    why: str
    mend: str


class ForwardAuthExamination(Response):
    """`passctrl doctor`."""

    url: str
    sound: bool
    """No finding but notes."""
    requests: int
    proxy: str | None = None
    """Which mending is told; what the answers name, unless it was said."""
    findings: tuple[ForwardAuthFinding, ...]
