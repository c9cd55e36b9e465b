"""Agent 6, rule execution: one rule, from its credentials to what it exports.

    credentials -> kept result? -> sessions, backend -> variables -> error, fail, pass -> exports

Conditions, cell by cell (a row: what a condition of that list gives):

    |           | true         | false        | no value, or not true or false |
    |-----------|--------------|--------------|--------------------------------|
    | errorWhen | error        | go on        | error                          |
    | failWhen  | fail         | go on        | error                          |
    | whenAll   | go on        | fail         | error                          |

`errorWhen` is judged first, then `failWhen`, then `whenAll`, each in its order; the first that
ends the rule does. A rule whose backend gave no answer, or one with a status of 500 or above
that is not accepted, cannot pass nor fail by `whenAll`: it is an error. Another status that
is not accepted fails it, and so does an introspection that does not call the token active.
Only what all of this leaves standing passes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatekeeper.forwardauth.agents import backend as backends
from gatekeeper.forwardauth.agents import caching, matching
from gatekeeper.forwardauth.agents.matching import NOT_FORWARDED, Forwarded, Matching
from gatekeeper.forwardauth.agents.variables import assign
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.model import (
    NOTHING,
    BackendResponse,
    CallBackend,
    FindSessions,
    Outcome,
    Rejected,
    RuleResult,
    VerifyToken,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.agents.backend import Backend
    from gatekeeper.forwardauth.agents.caching import Fresh
    from gatekeeper.forwardauth.agents.evaluation import Evaluation
    from gatekeeper.forwardauth.agents.rule import RulePlan
    from gatekeeper.forwardauth.model import Scope, Steps
    from gatekeeper.forwardauth.ports import Expression

UNAUTHENTICATED: Final = 401
NO_MATCH: Final = "no credential matched a group of the rule"


def execute(plan: RulePlan, evaluation: Evaluation) -> Steps[RuleResult]:
    """Run one rule."""
    scope = evaluation.scope
    if plan.blank:
        scope.values.update(plan.blank)
        scope.prepared = None
    forwarded, group, until = NOT_FORWARDED, None, inf
    if plan.matching is not None:
        tokens = NO_TOKENS
        if plan.matching.issuers:
            tokens = yield from _verified(plan.matching, evaluation)
            until = tokens.until
        found = matching.first_match(plan.matching.groups, evaluation.credentials, tokens.claims)
        if found is None:
            return caching.within(_unmatched(plan, evaluation, tokens), until)
        group, shown = found
        evaluation.recognised |= bool(shown)
        try:
            forwarded = _selected(plan, plan.matching.groups[group], shown, evaluation)
        except EvaluationError as error:
            return _ended(plan, evaluation, Outcome.ERROR, str(error))
    if plan.caching is None and not plan.asks:
        return _concluded(plan, evaluation, None)
    evaluate = _run(plan, evaluation, forwarded)
    if plan.caching is None:
        result, _headers = yield from evaluate
        return caching.within(result, until)
    return (
        yield from caching.kept(
            plan.caching, evaluate, evaluation, asks=plan.asks, extra=group, until=until
        )
    )


def _unmatched(plan: RulePlan, evaluation: Evaluation, tokens: _Tokens) -> RuleResult:
    """End a rule none of whose groups holds. Who was recognised by no rule may log in again."""
    if tokens.unknown:
        return _ended(plan, evaluation, Outcome.ERROR, tokens.unknown)
    result = _ended(plan, evaluation, Outcome.FAIL, NO_MATCH)
    return result._replace(recognised=evaluation.recognised)


class _Tokens(NamedTuple):
    """What is known of the request's token, by issuer."""

    claims: Mapping[str, Mapping[str, Any]]
    until: float
    unknown: str = ""
    """Why an issuer could not be asked; then nothing of it is kept."""


NO_TOKENS: Final = _Tokens(NOTHING, inf)


def _verified(plan: Matching, evaluation: Evaluation) -> Steps[_Tokens]:
    """Verify the request's token for each issuer the rule names."""
    token = _token(evaluation)
    if token is None:
        return NO_TOKENS
    found: dict[str, Mapping[str, Any]] = {}
    until, unknown = inf, ""
    for issuer in plan.issuers:
        claims = yield VerifyToken(issuer, token)
        if not isinstance(claims, Rejected):
            found[issuer] = claims
            until = min(until, claims["exp"])
        elif claims.status >= backends.SERVER_ERROR:
            until, unknown = 0.0, f"issuer {issuer}: {claims.reason}"
        if evaluation.trace is not None:
            said = claims.reason if isinstance(claims, Rejected) else "verified"
            evaluation.note("rule execution", f"token of {issuer}", said)
    return _Tokens(found, until, unknown)


def _token(evaluation: Evaluation) -> str | None:
    return next((c.value for c in evaluation.credentials if c.kind == "bearer"), None)


def _selected(
    plan: RulePlan, group: matching.Group, shown: Mapping[str, Any], evaluation: Evaluation
) -> Forwarded:
    """Show the winner's credentials; return what it forwards. Raises `EvaluationError`."""
    scope, wanted = evaluation.scope, plan.blank
    if evaluation.trace is not None:
        evaluation.note("rule execution", plan.name, f"matched by {group.selected}", shown)
    if wanted:
        if "auth.input" in wanted:
            scope.set("auth.input", shown)
        if "auth.selected" in wanted:
            scope.set("auth.selected", group.selected)
    if plan.backend is None:
        return NOT_FORWARDED
    if group.outputs is None and plan.backend.introspection is not None:
        return NOT_FORWARDED  # the token is what is asked about, and goes into the form
    forwarded = matching.forwards(group, shown, scope)
    if "auth.forward" in wanted:
        scope.set(
            "auth.forward", {"headers": dict(forwarded.headers), "query": dict(forwarded.query)}
        )
    return forwarded


def _run(plan: RulePlan, evaluation: Evaluation, forwarded: Forwarded) -> Steps[Fresh]:
    """Evaluate the rule: its result, and the headers of its backend's answer."""
    response: BackendResponse | None = None
    try:
        if plan.sessions:
            yield from _sessions(evaluation)
        if plan.backend is not None:
            response = yield from _ask(plan, plan.backend, evaluation, forwarded)
    except EvaluationError as error:
        return _ended(plan, evaluation, Outcome.ERROR, str(error)), NOTHING
    result = _concluded(plan, evaluation, response)
    if response is None:
        return result, NOTHING
    if response.error is not None or response.status >= backends.SERVER_ERROR:
        result = caching.within(result, 0.0)  # whatever a rule makes of it, it may soon be over
    elif plan.backend is not None and plan.backend.introspection is not None:
        result = caching.within(result, backends.active_until(response))
    return result, response.headers


def _concluded(
    plan: RulePlan, evaluation: Evaluation, response: BackendResponse | None
) -> RuleResult:
    """Judge what is known now."""
    scope, accepted = evaluation.scope, True
    try:
        if plan.backend is not None:
            if response is None:
                msg = "backend: there is no answer"
                raise EvaluationError(msg)  # noqa: TRY301  # nothing asked is nothing accepted
            accepted = backends.show(response, plan.backend, scope)
        if plan.variables:
            assign("vars.local", plan.variables, scope)
        outcome, reason = _judge(plan, scope, response, accepted=accepted)
    except EvaluationError as error:
        outcome, reason = Outcome.ERROR, str(error)
    return _ended(plan, evaluation, outcome, reason)


def _sessions(evaluation: Evaluation) -> Steps[None]:
    token = _token(evaluation)
    found = () if token is None else (yield FindSessions(token))
    if isinstance(found, Rejected) and found.status == UNAUTHENTICATED:
        found = ()  # a token that Gatekeeper does not know holds nothing; it is no failure of ours
    if isinstance(found, Rejected):
        msg = f"session: {found.reason}"
        raise EvaluationError(msg)
    scope = evaluation.scope
    scope.set("session.live", bool(found))
    scope.set(
        "session.sessions",
        [
            {"id": one.id, "target": one.target, "role": one.role, "expiresAt": one.expires_at}
            for one in found
        ],
    )


def _ask(
    plan: RulePlan, backend: Backend, evaluation: Evaluation, forwarded: Forwarded
) -> Steps[BackendResponse]:
    sources = plan.matching.sources if plan.matching is not None else matching.NO_SOURCES
    request = backends.render(backend, evaluation, forwarded, sources)
    response: BackendResponse = yield CallBackend(request)
    if evaluation.trace is not None:
        detail = {"url": request.url, "headers": dict(request.headers), "body": response.body_text}
        said = response.error or f"status {response.status}"
        evaluation.note("backend interaction", f"{request.method} {plan.name}", said, detail)
    return response


def _judge(
    plan: RulePlan, scope: Scope, response: BackendResponse | None, *, accepted: bool
) -> tuple[Outcome, str]:
    """Judge the conditions in their order: see the table above."""
    for condition in plan.error_when:
        if condition(scope):
            return Outcome.ERROR, f"errorWhen: {condition.source}"
    for condition in plan.fail_when:
        if condition(scope):
            return Outcome.FAIL, f"failWhen: {condition.source}"
    if response is not None and response.error is not None:
        return Outcome.ERROR, f"backend: {response.error}"
    if response is not None and not accepted and response.status >= backends.SERVER_ERROR:
        return Outcome.ERROR, f"backend: status {response.status}"
    lacking = _lacking(plan, scope)
    if lacking is not None:
        return Outcome.FAIL, f"whenAll: {lacking.source}"
    if response is not None and not accepted:
        return Outcome.FAIL, f"backend: status {response.status} or its answer is not accepted"
    return Outcome.PASS, ""


def _lacking(plan: RulePlan, scope: Scope) -> Expression | None:
    """Find the first condition of `whenAll` that does not hold."""
    if plan.together is not None:
        try:
            if plan.together(scope):
                return None
        except EvaluationError:
            pass  # which of them has no value, and whether one before it is false, is told below
    return next((condition for condition in plan.when_all if not condition(scope)), None)


def _ended(plan: RulePlan, evaluation: Evaluation, outcome: Outcome, reason: str) -> RuleResult:
    """Evaluate what the outcome exports. A rule that passes must have all of it."""
    exported: dict[str, Any] = {}
    try:
        for name, expression in plan.exports[outcome]:
            exported[name] = caching.plain(expression(evaluation.scope))
    except (EvaluationError, ValueError) as error:
        exported = {}
        if outcome is Outcome.PASS:
            outcome, reason = Outcome.ERROR, f"responses.pass.variables: {error}"
    if evaluation.trace is not None:
        detail = {"reason": reason, "exports": exported}
        evaluation.note("rule execution", plan.name, outcome.value, detail)
    return RuleResult(outcome, reason, {plan.name: exported} if exported else NOTHING)
