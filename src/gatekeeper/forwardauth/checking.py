"""What expressions of compiled definitions read that is not there, or must not be read.

Found when a configuration is loaded: each of these would be an error for every request.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.agents.compiling import reads_of
from gatekeeper.forwardauth.model import Outcome
from gatekeeper.forwardauth.vocabulary import OF_A_RULE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatekeeper.forwardauth.agents.compiling import Compiler
    from gatekeeper.forwardauth.agents.rule import RulePlan
    from gatekeeper.forwardauth.model import Read
    from gatekeeper.forwardauth.ports import Expression

Named = tuple[tuple[str, "Expression"], ...]

_ASKED: Final = frozenset(name for name in OF_A_RULE if name.startswith("backend."))
_NOT_BEFORE_ASKING: Final = _ASKED | {"vars.local"}
_NOT_BEFORE_FORWARDING: Final = OF_A_RULE - {"auth.input", "auth.selected"}
_NOT_OF_AN_ENDPOINT: Final = OF_A_RULE | {"rules", "response"}


def check_rule(plan: RulePlan, compiler: Compiler) -> None:
    """Check a rule by itself."""
    if plan.backend is not None:
        _absent(plan.backend.reads, _NOT_BEFORE_ASKING, compiler.at("backendApi"))
    if plan.matching is not None:
        _absent(plan.matching.reads, _NOT_BEFORE_FORWARDING, compiler.at("auth"))
    _check_order("vars.local", plan.variables, compiler.at("variables"))
    known = dict(plan.variables)
    for read in sorted(plan.reads - reads_of(plan.variables)):
        if read[0] == "vars.local" and len(read) > 1 and read[1] not in known:
            near = difflib.get_close_matches(read[1], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            compiler.at("variables").fault(f"there is no vars.local.{read[1]}{hint}")
    _check_exports(plan, compiler.at("responses"))


def check_endpoint(
    variables: Named, rules: Sequence[RulePlan], response: frozenset[Read], compiler: Compiler
) -> None:
    """Check an endpoint with the rules of its chain; `response` is what its answers read."""
    where = compiler.at("variables")
    if any(read[0] == "secrets" for read in reads_of(variables)):
        where.fault("an endpoint's variables may not read secrets; a rule's may")
    _absent(reads_of(variables), _NOT_OF_AN_ENDPOINT, where)
    _check_order("vars.global", variables, where)
    known = dict(variables)
    done: dict[str, RulePlan] = {}
    for index, rule in enumerate(rules):
        for read in sorted(rule.reads):
            if why := _unknown(read, known, done, (Outcome.PASS,)):
                compiler.at("rules", index).fault(f"{rule.name} reads {'.'.join(read)}: {why}")
        done[rule.name] = rule
    for read in sorted(response):
        if why := _unknown(read, known, done, tuple(Outcome)):
            compiler.at("responsePolicy").fault(f"it reads {'.'.join(read)}: {why}")


def _absent(reads: Iterable[Read], names: frozenset[str], compiler: Compiler) -> None:
    for name in sorted({read[0] for read in reads} & names):
        compiler.fault(f"{name} is not there by then")


def _check_order(name: str, variables: Named, compiler: Compiler) -> None:
    """Variables see those that stand before them."""
    before: set[str] = set()
    for variable, expression in variables:
        for read in sorted(expression.reads):
            if read[0] == name and len(read) > 1 and read[1] not in before:
                compiler.at(variable).fault(f"no {name}.{read[1]} stands before it")
        before.add(variable)


def _check_exports(plan: RulePlan, compiler: Compiler) -> None:
    """Refuse to export what came from a secret: exports are for answers to clients."""
    secret: set[Read] = {("secrets",)}
    if plan.matching is not None and any(_touches(read, secret) for read in plan.matching.reads):
        secret.add(("auth.forward",))
    if any(_touches(read, secret) for read in _url_reads(plan)):
        secret.add(("backend.pages",))  # each with its URL
    for name, expression in plan.variables:
        if any(_touches(read, secret) for read in expression.reads):
            secret.add(("vars.local", name))
    for outcome, exports in plan.exports.items():
        for name, expression in exports:
            if any(_touches(read, secret) for read in expression.reads):
                compiler.at(outcome.value, "variables", name).fault(
                    "it reads secrets, and what is exported can reach clients"
                )


def _url_reads(plan: RulePlan) -> frozenset[Read]:
    """Return what the URL of a rule's call is made of, with its parameters."""
    if plan.backend is None:
        return frozenset()
    groups = plan.matching.groups if plan.matching is not None else ()
    forwarded = (
        output.first for group in groups for output in group.outputs or () if output.kind == "query"
    )
    return reads_of(plan.backend.url, plan.backend.query, forwarded)


def _touches(read: Read, paths: set[Read]) -> bool:
    """Tell whether a read has anything of these paths: a part of one, or all around it."""
    return any(read[: len(path)] == path[: len(read)] for path in paths)


def _unknown(
    read: Read,
    variables: Mapping[str, object],
    rules: Mapping[str, RulePlan],
    outcomes: tuple[Outcome, ...],
) -> str | None:
    """Say why there is nothing to be read there, once these rules have ended so."""
    name, *keys = read
    if not keys:
        return None
    if name == "vars.global" and keys[0] not in variables:
        return "the endpoint has no such variable"
    if name == "response" and all(
        keys[0] not in _exported(rule, outcomes) for rule in rules.values()
    ):
        return "no rule that has run by then exports it"
    if name == "rules":
        rule = rules.get(keys[0])
        if rule is None:
            return "this rule has not run by then"
        if len(keys) > 1 and keys[1] not in _exported(rule, outcomes):
            return "the rule does not export it"
    return None


def _exported(rule: RulePlan, outcomes: tuple[Outcome, ...]) -> set[str]:
    return {name for outcome in outcomes for name, _ in rule.exports[outcome]}
