"""Policy: what may be asked for, decided by pure rules. Default deny; an explicit deny wins.

A condition that cannot be evaluated counts against the caller: as not met for a
grant, as met for a deny.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from gatekeeper.kernel.ttl import format_ttl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

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

    def instead(self) -> tuple[str, ...]:
        return self.alternatives


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Why not, rule by rule, and what would be allowed instead."""

    reasons: tuple[str, ...]
    alternatives: tuple[str, ...] = ()

    def explain(self) -> tuple[str, ...]:
        return self.reasons

    def instead(self) -> tuple[str, ...]:
        return self.alternatives


Decision = Allowed | NeedsApproval | Denied


def decide(policy: Policy, request: AccessRequest, now: datetime) -> Decision:
    """Answer one request. The best grant that fits answers: no approval before approval,
    then the longest time.
    """
    facts = _facts(request, now)
    denied = tuple(
        f"deny {deny.name!r} forbids it" for deny in policy.denies if _forbids(deny, request, facts)
    )
    if denied:
        return Denied(reasons=denied)
    fitting = [grant for grant in policy.grants if _fits(grant, request, facts)]
    if not fitting:
        return Denied(
            reasons=_why_none(policy, request, facts),
            alternatives=_alternatives(policy, request, now),
        )
    best = max(fitting, key=lambda grant: (grant.approval is None, grant.max_ttl))
    if request.ttl is not None and request.ttl > best.max_ttl:
        return Denied(
            reasons=(f"grant {best.name!r} allows at most {format_ttl(best.max_ttl)}",),
            alternatives=(f"ask for {format_ttl(best.max_ttl)} or less",),
        )
    if best.approval is not None:
        return NeedsApproval(
            grant=best.name,
            approval=best.approval,
            alternatives=_alternatives(policy, request, now),
        )
    ttl = best.max_ttl if request.ttl is None else request.ttl
    return Allowed(grant=best.name, ttl=ttl, max_ttl=best.max_ttl)


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


def _fits(grant: Grant, request: AccessRequest, facts: Mapping[str, Any]) -> bool:
    return (
        _in_scope(grant, request)
        and grant.who.matches(request.principal)
        and _met(grant.when, facts, on_error=False)
    )


def _forbids(deny: Deny, request: AccessRequest, facts: Mapping[str, Any]) -> bool:
    return (
        _in_scope(deny, request)
        and deny.who.matches(request.principal)
        and _met(deny.when, facts, on_error=True)
    )


def _met(condition: Condition | None, facts: Mapping[str, Any], *, on_error: bool) -> bool:
    if condition is None:
        return True
    try:
        return condition(facts)
    except ConditionError:
        return on_error


def _why_none(policy: Policy, request: AccessRequest, facts: Mapping[str, Any]) -> tuple[str, ...]:
    reasons = []
    for grant in policy.grants:
        if not _in_scope(grant, request):
            continue
        if not grant.who.matches(request.principal):
            reasons.append(f"grant {grant.name!r} is for others")
        elif not _met(grant.when, facts, on_error=False):
            source = grant.when.source if grant.when is not None else ""
            reasons.append(f"grant {grant.name!r} asks that {source}")
    scope = f"role {request.role!r} at target {request.target!r}"
    return tuple(reasons) or (f"no grant covers {scope}",)


def _alternatives(policy: Policy, request: AccessRequest, now: datetime) -> tuple[str, ...]:
    """Say which other roles of the policy the caller would get at this target."""
    roles = {role for grant in policy.grants for role in grant.roles if "*" not in role}
    found = []
    for role in sorted(roles - {request.role}):
        other = AccessRequest(
            principal=request.principal,
            plane=request.plane,
            target=request.target,
            role=role,
            ttl=None,
            reason=request.reason,
        )
        facts = _facts(other, now)
        fitting = [
            grant.max_ttl
            for grant in policy.grants
            if grant.approval is None and _fits(grant, other, facts)
        ]
        if fitting and not any(_forbids(deny, other, facts) for deny in policy.denies):
            found.append(f"role {role!r} for up to {format_ttl(max(fitting))} would be allowed")
    return tuple(found)


def _facts(request: AccessRequest, now: datetime) -> dict[str, Any]:
    """Return what a condition may ask about."""
    principal = request.principal
    return {
        "request.plane": request.plane,
        "request.target": request.target,
        "request.role": request.role,
        "request.reason": request.reason,
        "request.ttlSeconds": 0 if request.ttl is None else int(request.ttl.total_seconds()),
        "principal.issuer": principal.issuer,
        "principal.subject": principal.subject,
        "principal.email": principal.email or "",
        "principal.groups": sorted(principal.groups),
        "principal.kind": principal.kind.value,
        "now": now,
    }
