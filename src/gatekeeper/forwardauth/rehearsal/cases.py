"""Runs tables of cases: what rules are to decide, kept beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gatekeeper.forwardauth.decision import decide
from gatekeeper.forwardauth.model import Answer, Outcome, Rejected, Step
from gatekeeper.forwardauth.redaction import Redactor
from gatekeeper.forwardauth.rehearsal.replaying import Glance, original, replay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatekeeper.forwardauth.agents.server import Generation
    from gatekeeper.forwardauth.config.recorded import Case, Expected

REQUEST_ID = "case"


class CaseResult(NamedTuple):
    """How a case went; `problem` is None when it went as expected."""

    name: str
    endpoint: str
    problem: str | None


def run_cases(cases: Iterable[Case], generation: Generation) -> tuple[CaseResult, ...]:
    """Run cases against a configuration. Nothing outside is asked."""
    redactor = Redactor(secret.reveal() for secret in generation.secrets)
    return tuple(
        CaseResult(one.name, one.endpoint, problem and redactor.text(problem))
        for one in cases
        for problem in [_problem(one, generation)]
    )


def _problem(case: Case, generation: Generation) -> str | None:
    trace: list[Step] = []
    answer = _answer(case, generation, trace)
    if answer is None:
        return f"there is no endpoint {case.endpoint} that can be used"
    wrong = list(_differences(case.expect, answer, trace))
    if not wrong:
        return None
    why = f" (reason: {answer.reason})" if answer.reason else ""
    return "; ".join(wrong) + why


def _answer(case: Case, generation: Generation, trace: list[Step]) -> Answer | None:
    plan = generation.plans.get(case.endpoint)
    if plan is None:
        return None
    request = original(plan, case.request, case.dialect)
    if isinstance(request, Rejected):
        return Answer(Outcome.FAIL, request.status, reason=request.reason)
    steps = decide(
        plan,
        request,
        memory=Glance(),
        now=case.now.timestamp(),
        request_id=REQUEST_ID,
        trace=trace,
    )
    try:
        return replay(steps, case)
    except Exception as error:  # noqa: BLE001  # as the decision port does: refuse
        return Answer(Outcome.ERROR, 500, reason=f"a defect: {type(error).__name__}")


def _differences(expect: Expected, answer: Answer, trace: Iterable[Step]) -> Iterator[str]:
    if expect.outcome != answer.outcome.value:
        yield f"expected outcome {expect.outcome}, got {answer.outcome.value}"
    if expect.status not in (None, answer.status):
        yield f"expected status {expect.status}, got {answer.status}"
    if expect.reason is not None and expect.reason not in answer.reason:
        yield f"no reason says {expect.reason!r}"
    if expect.location not in (None, answer.location):
        yield f"expected location {expect.location!r}, got {answer.location!r}"
    headers = dict(answer.headers)
    for name, wanted in expect.headers.items():
        found = headers.get(name.lower())
        if found != wanted:
            yield f"header {name}: expected {_said(wanted)}, got {_said(found)}"
    exported = _exports(trace)
    for rule, variables in expect.exports.items():
        for name, value in variables.items():
            found_value = exported.get(rule, {}).get(name)
            if found_value != value:
                yield f"{rule} exports {name}: expected {value!r}, got {found_value!r}"


def _said(value: str | None) -> str:
    return "none" if value is None else repr(value)


def _exports(trace: Iterable[Step]) -> dict[str, Any]:
    """Return what each rule exported, as it noted when it ended."""
    return {step.subject: step.detail["exports"] for step in trace if "exports" in step.detail}
