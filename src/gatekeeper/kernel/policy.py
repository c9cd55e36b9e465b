"""Policy: what may be asked for, decided by pure rules. Default deny; an explicit deny wins.

A condition that cannot be evaluated counts against the caller: as not met for a
grant, as met for a deny.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from gatekeeper.kernel.ttl import format_ttl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from gatekeeper.kernel.identity import Principal


class ConditionError(Exception):
    """A condition could not be evaluated."""


class Condition(Protocol):
    """A compiled condition. Raises `ConditionError` when it cannot be evaluated."""

    @property
    def source(self) -> str: ...

    def __call__(self, facts: Mapping[str, Any]) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Whom a rule is about: every field that is given must match, in any of its values."""

    groups: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()
    issuers: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    def matches(self, principal: Principal) -> bool:
        return (
            (not self.groups or bool(self.groups & principal.groups))
            and (not self.emails or principal.email in self.emails)
            and (not self.subjects or principal.subject in self.subjects)
            and (not self.issuers or principal.issuer in self.issuers)
            and (not self.kinds or principal.kind.value in self.kinds)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Who must agree, and for how long a request waits for them."""

    count: int
    groups: frozenset[str]
    expires: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    name: str
    who: Who
    plane: str
    targets: tuple[str, ...]
    roles: tuple[str, ...]
    max_ttl: timedelta
    when: Condition | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    name: str
    plane: str
    who: Who = field(default_factory=Who)
    targets: tuple[str, ...] = ("*",)
    roles: tuple[str, ...] = ("*",)
    when: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    sessions_per_principal: int = 5
    requests_per_minute: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    grants: tuple[Grant, ...] = ()
    denies: tuple[Deny, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """What somebody asks for. `ttl` None leaves the choice to the policy."""

    principal: Principal
    plane: str
    target: str
    role: str
    ttl: timedelta | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    grant: str
    ttl: timedelta
    max_ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsApproval:
    """A grant fits, and asks for a second pair of eyes."""

    grant: str
    approval: Approval
    alternatives: tuple[str, ...] = ()

    def explain(self) -> tuple[str, ...]:
        return (f"grant {self.grant!r} needs an approval, which cannot be given yet",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Why not, rule by rule, and what would be allowed instead."""

    reasons: tuple[str, ...]
    alternatives: tuple[str, ...] = ()

    def explain(self) -> tuple[str, ...]:
        return self.reasons


Decision = Allowed | NeedsApproval | Denied


def decide(policy: Policy, request: AccessRequest, now: datetime) -> Decision:
    """Answer one request. The best grant that fits answers: no approval before approval,
    then the longest time. The order of rules says nothing.

    A request that leaves its time open is judged, by conditions too, as one for the
    longest time of each grant: that is what it would get.
    """
    judged = _judge(policy, request, now)
    fitting = [grant for grant, against in judged if not against]
    if not fitting:
        return Denied(
            reasons=_reasons(policy, request, judged, now),
            alternatives=_alternatives(policy, request, now),
        )
    best = min(fitting, key=lambda grant: (grant.approval is not None, -grant.max_ttl, grant.name))
    if best.approval is not None:
        return NeedsApproval(
            grant=best.name,
            approval=best.approval,
            alternatives=_alternatives(policy, request, now),
        )
    return Allowed(grant=best.name, ttl=_time(best, request), max_ttl=best.max_ttl)


def matches(patterns: Iterable[str], text: str) -> bool:
    """Tell whether a name matches any pattern; `*` stands for any characters."""
    return any(_pattern(pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def _in_scope(rule: Grant | Deny, request: AccessRequest) -> bool:
    return (
        rule.plane == request.plane
        and matches(rule.targets, request.target)
        and matches(rule.roles, request.role)
    )


def _judge(
    policy: Policy, request: AccessRequest, now: datetime
) -> list[tuple[Grant, tuple[str, ...]]]:
    """Return each grant in scope with every reason why it does not answer the request."""
    scope = [grant for grant in policy.grants if _in_scope(grant, request)]
    facts = {ttl: _facts(request, ttl, now) for ttl in {_time(grant, request) for grant in scope}}
    denies = {ttl: _denies(policy, request, seen) for ttl, seen in facts.items()}
    return [
        (grant, (*denies[ttl], *_against(grant, request, facts[ttl])))
        for grant in scope
        for ttl in (_time(grant, request),)
    ]


def _time(grant: Grant, request: AccessRequest) -> timedelta:
    return grant.max_ttl if request.ttl is None else request.ttl


def _against(grant: Grant, request: AccessRequest, facts: Mapping[str, Any]) -> tuple[str, ...]:
    if not grant.who.matches(request.principal):
        return (f"grant {grant.name!r} is for others",)
    reasons = []
    if _time(grant, request) > grant.max_ttl:
        reasons.append(f"grant {grant.name!r} allows at most {format_ttl(grant.max_ttl)}")
    try:
        if grant.when is not None and not grant.when(facts):
            reasons.append(f"grant {grant.name!r} asks that {grant.when.source}")
    except ConditionError:
        reasons.append(f"grant {grant.name!r} has a condition that could not be evaluated")
    return tuple(reasons)


def _denies(policy: Policy, request: AccessRequest, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a reason for each deny that forbids the request."""
    reasons = []
    for deny in policy.denies:
        if not (_in_scope(deny, request) and deny.who.matches(request.principal)):
            continue
        try:
            if deny.when is None or deny.when(facts):
                reasons.append(f"deny {deny.name!r} forbids it")
        except ConditionError:
            reasons.append(f"deny {deny.name!r} forbids it: its condition could not be evaluated")
    return tuple(reasons)


def _reasons(
    policy: Policy,
    request: AccessRequest,
    judged: Sequence[tuple[Grant, tuple[str, ...]]],
    now: datetime,
) -> tuple[str, ...]:
    """Name each reason once, denies first."""
    if judged:
        return tuple(sorted({reason for _grant, against in judged for reason in against}))
    denies = _denies(policy, request, _facts(request, request.ttl or timedelta(), now))
    uncovered = f"no grant covers role {request.role!r} at target {request.target!r}"
    return (*sorted(denies), uncovered)


def _alternatives(policy: Policy, request: AccessRequest, now: datetime) -> tuple[str, ...]:
    """Say what the caller would get instead: the same for a shorter time, or another role."""
    found = []
    shorter = _longest(policy, request, now)
    if shorter is not None and request.ttl is not None and shorter < request.ttl:
        found.append(f"ask for {format_ttl(shorter)} or less")
    roles = {
        role
        for grant in policy.grants
        if grant.plane == request.plane and matches(grant.targets, request.target)
        for role in grant.roles
        if "*" not in role
    }
    for role in sorted(roles - {request.role}):
        longest = _longest(policy, replace(request, role=role), now)
        if longest is not None:
            found.append(f"role {role!r} for up to {format_ttl(longest)} would be allowed")
    return tuple(found)


def _longest(policy: Policy, request: AccessRequest, now: datetime) -> timedelta | None:
    """Return the longest time the request would get without an approval; None for not at all."""
    judged = _judge(policy, replace(request, ttl=None), now)
    return max(
        (g.max_ttl for g, against in judged if not against and g.approval is None), default=None
    )


def _facts(request: AccessRequest, ttl: timedelta, now: datetime) -> dict[str, Any]:
    """Return what a condition may ask about."""
    principal = request.principal
    return {
        "request.plane": request.plane,
        "request.target": request.target,
        "request.role": request.role,
        "request.reason": request.reason,
        "request.ttlSeconds": int(ttl.total_seconds()),
        "principal.issuer": principal.issuer,
        "principal.subject": principal.subject,
        "principal.email": principal.email or "",
        "principal.groups": sorted(principal.groups),
        "principal.kind": principal.kind.value,
        "now": now,
    }
