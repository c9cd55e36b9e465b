"""A rule, compiled: what agent 6 runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.forwardauth.agents import backend as backends
from gatekeeper.forwardauth.agents import caching, matching
from gatekeeper.forwardauth.agents.compiling import Compiler, reads_of
from gatekeeper.forwardauth.model import Outcome
from gatekeeper.forwardauth.vocabulary import OF_A_RULE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.agents.backend import Backend
    from gatekeeper.forwardauth.agents.caching import Caching
    from gatekeeper.forwardauth.agents.matching import Matching
    from gatekeeper.forwardauth.config.rule import Responses, Rule, RuleCache
    from gatekeeper.forwardauth.model import Read
    from gatekeeper.forwardauth.ports import Expression, Language

Named = tuple[tuple[str, "Expression"], ...]

BLANK: Final[Mapping[str, Any]] = {
    "auth.selected": "",
    "auth.input": {},
    "auth.forward": {},
    **backends.BEFORE,
    "session.live": False,
    "session.sessions": [],
    "vars.local": {},
}
"""What a rule sees of its own before it did anything: nothing of the rule before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePlan:
    """A rule, compiled. What it has none of is None or empty, and costs nothing."""

    name: str
    matching: Matching | None
    backend: Backend | None
    blank: Mapping[str, Any]
    """Of `BLANK` what anything reads; the rest need not be made."""
    sessions: bool
    """Whether anything reads `session.*`."""
    asks: bool
    """Whether it may need something from outside."""
    variables: Named
    error_when: tuple[Expression, ...]
    fail_when: tuple[Expression, ...]
    when_all: tuple[Expression, ...]
    together: Expression | None
    """All of `whenAll` in one; None when it says nothing that they do not say."""
    exports: Mapping[Outcome, Named]
    caching: Caching | None
    reads: frozenset[Read]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the server says about every rule."""

    key: bytes
    """Secret of this process, for comparing credentials."""
    cache_key: bytes
    """Secret of the cache and the configuration's digest."""
    timeout: float
    max_seconds: float


def compile_rule(name: str, config: Rule, compiler: Compiler, bounds: Bounds) -> RulePlan:
    groups, backend = None, None
    if config.auth:
        groups = matching.compile_matching(config.auth, compiler.at("auth"), key=bounds.key)
    if config.backend_api is not None:
        where = compiler.at("backendApi")
        backend = backends.compile_backend(config.backend_api, where, timeout=bounds.timeout)
    variables = compiler.at("variables").named(config.variables, Compiler.expression)
    where, conditions = compiler.at("conditions"), config.conditions
    error_when = _conditions(where.at("errorWhen"), conditions.error_when)
    fail_when = _conditions(where.at("failWhen"), conditions.fail_when)
    when_all = _conditions(where.at("whenAll"), conditions.when_all)
    exports = _exports(config.responses, compiler.at("responses"))
    reads = reads_of(variables, error_when, fail_when, when_all, *exports.values())
    if groups is not None:
        reads |= groups.reads | {("auth.input",)}
    if backend is not None:
        reads |= backend.reads
    names = {read[0] for read in reads}
    sessions = any(name.startswith("session.") for name in names)
    return RulePlan(
        name=name,
        matching=groups,
        backend=backend,
        blank={name: value for name, value in BLANK.items() if name in names},
        sessions=sessions,
        asks=backend is not None or sessions or bool(groups is not None and groups.issuers),
        variables=variables,
        error_when=error_when,
        fail_when=fail_when,
        when_all=when_all,
        together=_together(conditions.when_all, compiler.language),
        exports=exports,
        caching=_caching(name, config.cache, reads, bounds),
        reads=reads,
    )


def _exports(config: Responses, compiler: Compiler) -> dict[Outcome, Named]:
    return {
        outcome: compiler.at(outcome.value, "variables").named(
            exported.variables, Compiler.expression
        )
        for outcome, exported in (
            (Outcome.PASS, config.pass_),
            (Outcome.FAIL, config.fail),
            (Outcome.ERROR, config.error),
        )
    }


def _caching(
    name: str, config: RuleCache, reads: frozenset[Read], bounds: Bounds
) -> Caching | None:
    return caching.compile_caching(
        key=bounds.cache_key,
        names=("rule", name),
        reads=reads,
        inner=OF_A_RULE - {"auth.input"},
        pass_seconds=config.ttl.pass_,
        fail_seconds=config.ttl.fail,
        follow=config.follow_cache_control,
        max_seconds=bounds.max_seconds,
    )


def _conditions(compiler: Compiler, sources: list[str]) -> tuple[Expression, ...]:
    return tuple(compiler.at(index).condition(source) for index, source in enumerate(sources))


def _together(sources: list[str], language: Language) -> Expression | None:
    """Join conditions that must all hold: to evaluate one of five takes a third of the time.

    Where it is true, each of them is (CEL's && is true for nothing else). Where it is not,
    they are asked one by one, as what it is worth is for the first of them to say.
    """
    if len(sources) < 2:  # noqa: PLR2004  # nothing to join
        return None
    try:
        return language.condition(" && ".join(f"({source}\n)" for source in sources))
    except ValueError:  # too long together, or one of them is broken
        return None
