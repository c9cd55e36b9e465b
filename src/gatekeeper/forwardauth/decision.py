"""One decision, from the original request to the answer. It only orders the agents.

A decision starts as a refusal and stays one unless every step says otherwise: whoever drives
this answers an error when it raises.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gatekeeper.forwardauth.agents import chain
from gatekeeper.forwardauth.agents.admission import admit
from gatekeeper.forwardauth.agents.evaluation import Evaluation
from gatekeeper.forwardauth.agents.forward_policy import forwarded_headers
from gatekeeper.forwardauth.agents.response import respond
from gatekeeper.forwardauth.agents.variables import assign
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.model import NOTHING, Answer, Outcome, Rejected, Scope
from gatekeeper.forwardauth.request import views

if TYPE_CHECKING:
    from gatekeeper.forwardauth.agents.memory import Memory
    from gatekeeper.forwardauth.agents.response import Answering, ResponsePlan
    from gatekeeper.forwardauth.agents.server import EndpointPlan
    from gatekeeper.forwardauth.model import Credential, OriginalRequest, Step, Steps

AMBIGUOUS = 400
_NO_NAMES = frozenset[str]()


def decide(
    plan: EndpointPlan,
    request: OriginalRequest,
    *,
    memory: Memory,
    now: float,
    request_id: str,
    trace: list[Step] | None = None,
) -> Steps[Answer]:
    """Judge a request. `now` is in seconds of Unix time."""
    scope = Scope(dict(plan.constants))
    evaluation = Evaluation(plan.name, request, scope, memory, now, trace, NOTHING)
    if plan.reads_now:
        scope.values["now"] = datetime.fromtimestamp(now, UTC)
    if plan.reads_id:
        scope.values["request.id"] = request_id
    credentials = _admitted(plan, evaluation)
    if isinstance(credentials, Rejected):
        evaluation.note("admission", "credentials", "refused", {"reason": credentials.reason})
        return _refused(plan.response, credentials, evaluation)
    evaluation.credentials = credentials
    scope.values["admission.authenticated"] = bool(credentials)
    if trace is not None:
        kinds = ", ".join(credential.kind for credential in credentials)
        evaluation.note("admission", "credentials", kinds or "none")
    if plan.forwards:
        evaluation.forwarded = scope.values["forward.headers"] = forwarded_headers(request)
    if plan.variables:
        try:
            assign("vars.global", plan.variables, scope)
        except EvaluationError as error:
            return _answer(plan.response.answers[Outcome.ERROR], evaluation, str(error))
        evaluation.note("endpoint variables", plan.name, "evaluated", scope.values["vars.global"])
    result = yield from chain.run(plan.chain, evaluation)
    answers = plan.response.answers
    # A credential that nobody knows is as good as none: the client may bring another (401).
    how = answers[result.outcome] if result.recognised else plan.response.unauthenticated
    answer = _answer(how, evaluation, result.reason)
    return answer if result.origin == "fresh" else answer._replace(origin=result.origin)


def _admitted(plan: EndpointPlan, evaluation: Evaluation) -> tuple[Credential, ...] | Rejected:
    """Read what the endpoint reads of the request. What cannot be read is not judged."""
    request, values = evaluation.request, evaluation.scope.values
    try:
        for name, view in plan.views:
            values[name] = view(request)
        if ambiguous := _ambiguous(plan, request):
            return Rejected(AMBIGUOUS, ambiguous)
        return admit(plan.admission, request)
    except EvaluationError as error:
        return Rejected(AMBIGUOUS, str(error))


def _ambiguous(plan: EndpointPlan, request: OriginalRequest) -> str | None:
    """Find a parameter or cookie that is read and has no single value: none can be believed.

    Left out of what a rule reads it would be as if it were not there, and the application takes
    one of its values.
    """
    if plan.parameters != _NO_NAMES and request.raw_query:
        for name, given in views.query_all(request).items():
            if len(given) > 1 and (plan.parameters is None or name in plan.parameters):
                return f"the parameter {name} stands more than once, and is read"
    if plan.cookies != _NO_NAMES and b"cookie" in request.fields:
        for name in views.ambiguous_cookies(request):
            if plan.cookies is None or name in plan.cookies:
                return f"the cookie {name} has more than one value, and is read"
    return None


def _refused(plan: ResponsePlan, why: Rejected, evaluation: Evaluation) -> Answer:
    if why.status == AMBIGUOUS:
        return Answer(Outcome.FAIL, AMBIGUOUS, reason=why.reason)
    return _answer(plan.unauthenticated, evaluation, why.reason)


def _answer(plan: Answering, evaluation: Evaluation, reason: str) -> Answer:
    answer = respond(plan, evaluation)
    if evaluation.trace is not None:
        evaluation.note("response policy", plan.outcome.value, f"status {answer.status}")
    return answer if answer.reason or not reason else answer._replace(reason=reason)
