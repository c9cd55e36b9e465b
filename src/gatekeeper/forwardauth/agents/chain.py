"""Agent 5, rule chain: the rules in their order, for as long as each passes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from gatekeeper.forwardauth.agents import caching
from gatekeeper.forwardauth.agents.execution import execute
from gatekeeper.forwardauth.model import NOTHING, Outcome, RuleResult
from gatekeeper.forwardauth.vocabulary import OF_A_RULE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatekeeper.forwardauth.agents.caching import Caching, Fresh
    from gatekeeper.forwardauth.agents.evaluation import Evaluation
    from gatekeeper.forwardauth.agents.rule import Bounds, RulePlan
    from gatekeeper.forwardauth.model import Read, Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An endpoint's rules, in order, and how the result of all of them is kept."""

    rules: tuple[RulePlan, ...]
    asks: bool
    """Whether a rule may need something from outside."""
    caching: Caching | None


def compile_chain(
    endpoint: str,
    rules: Sequence[RulePlan],
    bounds: Bounds,
    *,
    credentials: Iterable[Read],
    seconds: float | None,
) -> Chain:
    """Compile a chain; `credentials` are where the endpoint looks for them, `seconds` its TTL."""
    reads = {read for rule in rules for read in rule.reads} | set(credentials)
    return Chain(
        rules=tuple(rules),
        asks=any(rule.asks for rule in rules),
        caching=caching.compile_caching(
            key=bounds.cache_key,
            names=("chain", endpoint),
            reads=reads,
            inner=OF_A_RULE | {"rules", "response"},
            pass_seconds=seconds,
            fail_seconds=seconds,
            follow=False,
            max_seconds=bounds.max_seconds,
        ),
    )


def run(chain: Chain, evaluation: Evaluation) -> Steps[RuleResult]:
    """Run the chain, unless its result was kept."""
    if chain.caching is None:
        return _rules(chain, evaluation)
    return _kept(chain, chain.caching, evaluation)


def _kept(chain: Chain, plan: Caching, evaluation: Evaluation) -> Steps[RuleResult]:
    fresh = _fresh(chain, evaluation)
    result = yield from caching.kept(plan, fresh, evaluation, asks=chain.asks)
    _show(result.exports, evaluation)
    return result


def _fresh(chain: Chain, evaluation: Evaluation) -> Steps[Fresh]:
    return (yield from _rules(chain, evaluation)), NOTHING


def _rules(chain: Chain, evaluation: Evaluation) -> Steps[RuleResult]:
    """Run the rules until one does not pass. The result lasts as long as the shortest of theirs."""
    exports: Mapping[str, Mapping[str, Any]] = NOTHING
    until = inf
    for plan in chain.rules:
        result = yield from execute(plan, evaluation)
        until = min(until, result.until)
        if result.exports:
            exports = {**exports, **result.exports}
            _show(exports, evaluation)
        if result.outcome is not Outcome.PASS:
            reason = f"{plan.name}: {result.reason}"
            return RuleResult(result.outcome, reason, exports, until, result.recognised)
    return RuleResult(Outcome.PASS, "", exports, until)


def _show(exports: Mapping[str, Mapping[str, Any]], evaluation: Evaluation) -> None:
    """Let later rules and the response see what was exported; of one name, the last counts."""
    flat = {name: value for exported in exports.values() for name, value in exported.items()}
    evaluation.scope.values |= {"rules": exports, "response": flat}
    evaluation.scope.prepared = None
