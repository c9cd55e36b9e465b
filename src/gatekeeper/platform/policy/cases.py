"""Tables of cases, for `gk policy test`: what a policy is to answer, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from gatekeeper.kernel import policy
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.ttl import format_ttl
from gatekeeper.platform.policy.documents import read_model
from gatekeeper.platform.policy.format import FileModel, Plane, Ttl

if TYPE_CHECKING:
    from pathlib import Path


class _Principal(FileModel):
    issuer: str = "https://issuer.example"
    subject: str = "someone"
    email: str | None = None
    groups: frozenset[str] = frozenset()
    kind: PrincipalKind = PrincipalKind.HUMAN


class _Case(FileModel):
    name: str
    principal: _Principal = _Principal()
    plane: Plane = "databases"
    target: str
    role: str
    ttl: Ttl | None = None
    reason: str = ""
    now: datetime | None = None
    expect: Literal["allowed", "denied", "needsApproval"]
    grant: str | None = None
    """The grant that answers."""
    given: Ttl | None = None
    """How long the session is."""
    max_ttl: Ttl | None = None
    """How long it could be."""
    because: str | None = None
    """A text that one of the reasons must contain."""
    instead: str | None = None
    """A text that one of the alternatives must contain."""

    @model_validator(mode="after")
    def _expects_what_there_can_be(self) -> _Case:
        allowed, denied = ("grant", "given", "max_ttl"), ("because", "instead")
        wrong = [k for k in (denied if self.expect == "allowed" else allowed) if getattr(self, k)]
        if wrong:
            msg = f"{to_camel(wrong[0])} says nothing about an answer that is {self.expect}"
            raise ValueError(msg)
        return self


class _Cases(FileModel):
    cases: tuple[_Case, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How one case of a table went; `problem` is None when it went as expected."""

    name: str
    problem: str | None


def run_cases(checked: policy.Policy, table: Path) -> tuple[CaseResult, ...]:
    """Run a table of cases. Raises `PolicyError` when the table cannot be read."""
    _document, cases = read_model(table, _Cases)
    return tuple(CaseResult(case.name, _run(checked, case)) for case in cases.cases)


def _run(checked: policy.Policy, case: _Case) -> str | None:
    decision = policy.decide(checked, _request(case), _now(case))
    answer = _answer(decision)
    if answer != case.expect:
        why = "" if isinstance(decision, policy.Allowed) else ": " + "; ".join(decision.explain())
        return f"expected {case.expect}, got {answer}{why}"
    if isinstance(decision, policy.Allowed):
        return _allowed_otherwise(decision, case)
    return _lacks("reason", case.because, decision.explain()) or _lacks(
        "alternative", case.instead, decision.alternatives
    )


def _allowed_otherwise(decision: policy.Allowed, case: _Case) -> str | None:
    if case.grant not in (None, decision.grant):
        return f"expected grant {case.grant!r}, got {decision.grant!r}"
    for what, expected, found in (
        ("given", case.given, decision.ttl),
        ("at most", case.max_ttl, decision.max_ttl),
    ):
        if expected not in (None, found):
            return f"expected {what} {format_ttl(expected)}, got {format_ttl(found)}"
    return None


def _lacks(kind: str, expected: str | None, said: tuple[str, ...]) -> str | None:
    if expected is None or any(expected in text for text in said):
        return None
    return f"no {kind} says {expected!r}: {'; '.join(said) or 'there is none'}"


def _answer(decision: policy.Decision) -> str:
    match decision:
        case policy.Allowed():
            return "allowed"
        case policy.NeedsApproval():
            return "needsApproval"
        case policy.Denied():
            return "denied"


def _request(case: _Case) -> policy.AccessRequest:
    who = case.principal
    return policy.AccessRequest(
        principal=Principal(
            issuer=who.issuer,
            subject=who.subject,
            kind=who.kind,
            email=who.email,
            groups=who.groups,
        ),
        plane=case.plane,
        target=case.target,
        role=case.role,
        ttl=case.ttl,
        reason=case.reason,
    )


def _now(case: _Case) -> datetime:
    now = case.now or datetime(2026, 1, 1, tzinfo=UTC)
    return now if now.tzinfo is not None else now.replace(tzinfo=UTC)
