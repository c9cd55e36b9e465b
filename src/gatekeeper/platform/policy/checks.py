"""What `gk policy validate` finds in a policy that can be read."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from gatekeeper.kernel import policy
from gatekeeper.platform.policy.conditions import CelCondition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


R = TypeVar("R", policy.Grant, policy.Deny)


class Code(StrEnum):
    """Kinds of findings; docs/reference/policy.md says what each means."""

    UNKNOWN_TARGET = "unknown-target"
    UNKNOWN_ROLE = "unknown-role"
    UNKNOWN_GROUP = "unknown-group"
    NO_EFFECT = "no-effect"
    NEVER_APPLIES = "never-applies"
    APPROVAL_NEVER_ASKED = "approval-never-asked"
    ALWAYS_TRUE = "always-true"
    ALWAYS_FALSE = "always-false"
    FOR_EVERYBODY = "for-everybody"
    ISSUER_LEFT_OPEN = "issuer-left-open"
    SELF_APPROVAL = "self-approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a rule that its author would want to know, and what to do about it."""

    code: Code
    rule: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What exists. None: not known, so nothing is said about it."""

    targets: frozenset[str] | None = None
    roles: frozenset[str] | None = None
    groups: frozenset[str] | None = None


def validate(checked: policy.Policy, names: Names) -> tuple[Finding, ...]:
    """Find names that nothing answers to, rules without effect, and grants that give too much."""
    return (
        *_unknown(checked, names),
        *_shadowed_grants(checked.grants),
        *_shadowed_denies(checked.denies),
        *_never_applied(checked),
        *_constant(checked),
        *_escalating(checked.grants),
    )


def _unknown(checked: policy.Policy, names: Names) -> Iterator[Finding]:
    rules: list[policy.Grant | policy.Deny] = [*checked.grants, *checked.denies]
    for rule in rules:
        groups = rule.who.groups
        if isinstance(rule, policy.Grant) and rule.approval is not None:
            groups |= rule.approval.groups
        yield from _unmatched(Code.UNKNOWN_TARGET, "target", rule, rule.targets, names.targets)
        yield from _unmatched(Code.UNKNOWN_ROLE, "role", rule, rule.roles, names.roles)
        for group in sorted(groups):
            if names.groups is not None and group not in names.groups:
                yield _unknown_name(Code.UNKNOWN_GROUP, "group", rule, group, names.groups)


def _unmatched(
    code: Code,
    kind: str,
    rule: policy.Grant | policy.Deny,
    patterns: tuple[str, ...],
    known: frozenset[str] | None,
) -> Iterator[Finding]:
    for pattern in patterns:
        if known is not None and not any(policy.matches([pattern], name) for name in known):
            yield _unknown_name(code, kind, rule, pattern, known)


def _unknown_name(
    code: Code, kind: str, rule: policy.Grant | policy.Deny, name: str, known: frozenset[str]
) -> Finding:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
    return Finding(code=code, rule=rule.name, what=f"there is no {kind} {name!r}", fix=fix)


def _shadowed_grants(grants: tuple[policy.Grant, ...]) -> Iterator[Finding]:
    for grant, wide in _redundant(grants, _allows_all):
        if grant.approval is not None:
            yield Finding(
                code=Code.APPROVAL_NEVER_ASKED,
                rule=grant.name,
                what=f"its approval is never asked for: {wide.name!r} allows all of it without",
                fix=f"narrow {wide.name!r}, or remove this one",
            )
        else:
            yield _no_effect(grant.name, wide.name, "allows")


def _shadowed_denies(denies: tuple[policy.Deny, ...]) -> Iterator[Finding]:
    for deny, wide in _redundant(denies, _covers):
        yield _no_effect(deny.name, wide.name, "forbids")


def _redundant(rules: tuple[R, ...], covers: Callable[[R, R], bool]) -> Iterator[tuple[R, R]]:
    """Pair each rule with another that covers it; of two alike the first is kept."""
    for place, rule in enumerate(rules):
        for other, wide in enumerate(rules):
            alike = other > place and covers(rule, wide)
            if other != place and not alike and covers(wide, rule):
                yield rule, wide
                break


def _no_effect(rule: str, wide: str, does: str) -> Finding:
    return Finding(
        code=Code.NO_EFFECT,
        rule=rule,
        what=f"it has no effect: {wide!r} {does} all of it",
        fix=f"remove it, or narrow {wide!r}",
    )


def _never_applied(checked: policy.Policy) -> Iterator[Finding]:
    for grant in checked.grants:
        for deny in checked.denies:
            if _covers(deny, grant):
                yield Finding(
                    code=Code.NEVER_APPLIES,
                    rule=grant.name,
                    what=f"it never applies: deny {deny.name!r} forbids all of it",
                    fix=f"remove it, or narrow {deny.name!r}",
                )


def _allows_all(wide: policy.Grant, narrow: policy.Grant) -> bool:
    """Tell whether everything one grant allows is allowed by another, at least as long."""
    return wide.approval is None and wide.max_ttl >= narrow.max_ttl and _covers(wide, narrow)


def _covers(wide: policy.Grant | policy.Deny, narrow: policy.Grant | policy.Deny) -> bool:
    """Tell whether one rule is about everything that another is about."""
    return (
        wide.plane == narrow.plane
        and (wide.when is None or wide.when == narrow.when)
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


def _constant(checked: policy.Policy) -> Iterator[Finding]:
    rules: list[policy.Grant | policy.Deny] = [*checked.grants, *checked.denies]
    for rule in rules:
        said = rule.when.constant() if isinstance(rule.when, CelCondition) else None
        if said is None:
            continue
        yield Finding(
            code=Code.ALWAYS_TRUE if said else Code.ALWAYS_FALSE,
            rule=rule.name,
            what=f"its condition is always {str(said).lower()}",
            fix="leave `when` out" if said else "remove the rule, or mend `when`",
        )


def _escalating(grants: tuple[policy.Grant, ...]) -> Iterator[Finding]:
    for grant in grants:
        who = grant.who
        if who == policy.Who():
            yield Finding(
                code=Code.FOR_EVERYBODY,
                rule=grant.name,
                what="it is for everybody with a token, CI jobs too",
                fix="say `who`, by groups or kinds",
            )
        if (who.subjects or who.emails) and not who.issuers:
            yield Finding(
                code=Code.ISSUER_LEFT_OPEN,
                rule=grant.name,
                what="every trusted issuer can name such a subject or address",
                fix="say `issuers` too",
            )
        if grant.approval is not None and who.groups and who.groups <= grant.approval.groups:
            yield Finding(
                code=Code.SELF_APPROVAL,
                rule=grant.name,
                what="everybody it is for may also approve it",
                fix="let a group of others approve",
            )
