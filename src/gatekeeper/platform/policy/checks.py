"""What `gk policy validate` and `gk policy test` say about a policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from gatekeeper.kernel import policy
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.ttl import format_ttl
from gatekeeper.platform.policy.files import PolicyError, Ttl, _File, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a policy that its author would want to know."""

    rule: str
    what: str


def validate(
    checked: policy.Policy,
    *,
    targets: Iterable[str] | None = None,
    roles: Iterable[str] | None = None,
) -> tuple[Finding, ...]:
    """Find names that nothing answers to, and rules without effect. Pure."""
    known_targets = None if targets is None else tuple(targets)
    known_roles = None if roles is None else tuple(roles)
    return (
        *_unknown(checked, known_targets, known_roles),
        *_shadowed(checked.grants),
        *_contradicted(checked),
    )


def _unknown(
    checked: policy.Policy, targets: tuple[str, ...] | None, roles: tuple[str, ...] | None
) -> Iterator[Finding]:
    rules: list[policy.Grant | policy.Deny] = [*checked.grants, *checked.denies]
    for rule in rules:
        for pattern in rule.targets:
            if targets is not None and not any(policy.matches([pattern], t) for t in targets):
                yield Finding(rule.name, f"no target matches {pattern!r}")
        for pattern in rule.roles:
            if roles is not None and not any(policy.matches([pattern], r) for r in roles):
                yield Finding(rule.name, f"no role matches {pattern!r}")


def _shadowed(grants: tuple[policy.Grant, ...]) -> Iterator[Finding]:
    for grant in grants:
        for other in grants:
            if (
                other is not grant
                and _covers(other, grant)
                and not (_covers(grant, other) and grants.index(grant) < grants.index(other))
            ):
                yield Finding(grant.name, f"it has no effect: {other.name!r} allows all of it")
                break


def _covers(wide: policy.Grant, narrow: policy.Grant) -> bool:
    """Tell whether everything one grant allows is allowed by another, at least as long."""
    return (
        wide.plane == narrow.plane
        and wide.when is None
        and wide.approval is None
        and wide.max_ttl >= narrow.max_ttl
        and all(policy.matches(wide.targets, target) for target in narrow.targets)
        and all(policy.matches(wide.roles, role) for role in narrow.roles)
        and _who_covers(wide.who, narrow.who)
    )


def _who_covers(wide: policy.Who, narrow: policy.Who) -> bool:
    pairs = (
        (wide.groups, narrow.groups),
        (wide.emails, narrow.emails),
        (wide.subjects, narrow.subjects),
        (wide.issuers, narrow.issuers),
        (wide.kinds, narrow.kinds),
    )
    return all(not w or (n and n <= w) for w, n in pairs)


def _contradicted(checked: policy.Policy) -> Iterator[Finding]:
    for grant in checked.grants:
        for deny in checked.denies:
            if (
                deny.when is None
                and deny.plane == grant.plane
                and _who_covers(deny.who, grant.who)
                and all(policy.matches(deny.targets, target) for target in grant.targets)
                and all(policy.matches(deny.roles, role) for role in grant.roles)
            ):
                yield Finding(grant.name, f"it never applies: deny {deny.name!r} forbids all of it")


class _Principal(_File):
    issuer: str = "https://issuer.example"
    subject: str = "someone"
    email: str | None = None
    groups: frozenset[str] = frozenset()
    kind: PrincipalKind = PrincipalKind.HUMAN


class _Case(_File):
    model_config = ConfigDict(populate_by_name=True)

    name: str
    principal: _Principal = _Principal()
    plane: Literal["databases", "forwardauth", "terminals"] = "databases"
    target: str
    role: str
    ttl: Ttl | None = None
    reason: str = ""
    now: datetime | None = None
    expect: Literal["allowed", "denied", "needsApproval"]
    max_ttl: Ttl | None = None
    because: str | None = None
    """A text that one of the reasons must contain."""


class _Cases(_File):
    cases: tuple[_Case, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How one case of a table went; `problem` is None when it went as expected."""

    name: str
    problem: str | None


def run_cases(checked: policy.Policy, table: Path) -> tuple[CaseResult, ...]:
    """Run a table of cases. Raises `PolicyError` when the table cannot be read."""
    _node, value = read_yaml(table)
    try:
        cases = _Cases.model_validate(value)
    except ValidationError as error:
        raise PolicyError([f"{table}: {_short(e)}" for e in error.errors()]) from error
    return tuple(CaseResult(case.name, _run(checked, case)) for case in cases.cases)


def _run(checked: policy.Policy, case: _Case) -> str | None:
    decision = policy.decide(checked, _request(case), _now(case))
    answer = _answer(decision)
    if answer != case.expect:
        why = "" if isinstance(decision, policy.Allowed) else ": " + "; ".join(decision.explain())
        return f"expected {case.expect}, got {answer}{why}"
    if isinstance(decision, policy.Allowed):
        return _ttl_problem(decision.max_ttl, case.max_ttl)
    if case.because is not None and not any(case.because in r for r in decision.explain()):
        return f"no reason says {case.because!r}: {'; '.join(decision.explain())}"
    return None


def _ttl_problem(found: timedelta, expected: timedelta | None) -> str | None:
    if expected is None or found == expected:
        return None
    return f"expected at most {format_ttl(expected)}, got {format_ttl(found)}"


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


def _short(error: Any) -> str:  # noqa: ANN401  # Pydantic's
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
