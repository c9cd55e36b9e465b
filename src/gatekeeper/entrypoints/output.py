"""What commands print with `--json` where no route answers (docs/reference/cli-json.md)."""

from __future__ import annotations

from gatekeeper.wire.base import Response
from gatekeeper.wire.sessions import SessionView


class CreatedSession(SessionView):
    """`gk session create`: the session, and the one time its DSN is shown."""

    dsn: str


class FirstBroken(Response):
    seq: int
    what: str


class VerifyReport(Response):
    """`gk audit verify`: whether the chain is whole; if not, which event was touched first."""

    whole: bool
    events: int
    head: str
    key_id: str
    first_broken: FirstBroken | None = None


class PolicyProblems(Response):
    """`gk policy validate`."""

    valid: bool
    problems: tuple[str, ...]


class PolicyCase(Response):
    name: str
    passed: bool
    problem: str | None = None


class PolicyTestReport(Response):
    """`gk policy test`."""

    passed: bool
    cases: tuple[PolicyCase, ...]
