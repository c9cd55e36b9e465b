"""Explains a decision: runs the same plan as the decision port, and says what each agent did.

Nothing it tells is a credential, and it keeps nothing.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from gatekeeper.forwardauth.decision import decide
from gatekeeper.forwardauth.model import Answer, Outcome, Rejected, Step
from gatekeeper.forwardauth.redaction import Redactor, is_credential
from gatekeeper.forwardauth.rehearsal.message import Message, message_of
from gatekeeper.forwardauth.rehearsal.replaying import Glance, original
from gatekeeper.forwardauth.vocabulary import VOLATILE
from gatekeeper.kernel.secret import REDACTED
from gatekeeper.wire.forwardauth import (
    DecisionExplained,
    ExplainedHeader,
    ExplainedKeeping,
    ExplainedReads,
    ExplainedSkipped,
    ExplainedStep,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatekeeper.forwardauth.agents.caching import Caching
    from gatekeeper.forwardauth.agents.memory import Memory
    from gatekeeper.forwardauth.agents.response import Answering
    from gatekeeper.forwardauth.agents.server import EndpointPlan, Generation
    from gatekeeper.forwardauth.config.recorded import Question
    from gatekeeper.forwardauth.model import Read, Steps

REQUEST_ID: Final = "explain"
CACHING: Final = "result caching"


def explain(
    question: Question, generation: Generation, *, memory: Memory | None, now: float
) -> Steps[DecisionExplained]:
    """Explain what a request would be answered. Drive it as any decision."""
    plan = generation.plans.get(question.endpoint)
    trace: list[Step] = []
    if plan is None:
        answer = _without_plan(question.endpoint, generation)
    else:
        answer = yield from _decided(plan, question, trace, Glance(memory), now)
    message = message_of(question.request)
    presented = () if isinstance(message, Rejected) else _presented(message, plan)
    redactor = Redactor([*(secret.reveal() for secret in generation.secrets), *presented])
    return DecisionExplained(
        endpoint=question.endpoint,
        dialect=question.dialect,
        outcome=answer.outcome.value,
        status=answer.status,
        reason=redactor.text(answer.reason),
        origin=answer.origin,
        generation=generation.number,
        headers=tuple(_headers(answer, plan)),
        steps=tuple(
            ExplainedStep(
                agent=step.agent,
                subject=redactor.text(step.subject),
                result=redactor.text(step.result),
                detail=redactor.value(step.detail),
            )
            for step in trace
        ),
        cache=() if plan is None else tuple(_keeping(plan, trace)),
        reads=() if plan is None else tuple(_reads(plan)),
        skipped=tuple(
            ExplainedSkipped(kind=one.kind, name=one.name, reason=redactor.text(one.reason))
            for one in generation.skipped
        ),
    )


def _without_plan(endpoint: str, generation: Generation) -> Answer:
    if endpoint not in generation.quarantined:
        return Answer(Outcome.ERROR, 404, reason="no such endpoint")
    why = [s.reason for s in generation.skipped if (s.kind, s.name) == ("endpoint", endpoint)]
    return Answer(Outcome.ERROR, 503, reason="; ".join(["the endpoint is quarantined", *why]))


def _decided(
    plan: EndpointPlan, question: Question, trace: list[Step], memory: Memory, now: float
) -> Steps[Answer]:
    try:
        request = original(plan, question.request, question.dialect)
        if isinstance(request, Rejected):
            trace.append(Step("admission", "request", "rejected", {"reason": request.reason}))
            return Answer(Outcome.FAIL, request.status, reason=request.reason)
        return (
            yield from decide(
                plan, request, memory=memory, now=now, request_id=REQUEST_ID, trace=trace
            )
        )
    except Exception as error:  # noqa: BLE001  # as the decision port does: refuse
        # Of the error its type alone: the text may hold anything.
        return Answer(Outcome.ERROR, 500, reason=f"a defect: {type(error).__name__}")


def _presented(message: Message, plan: EndpointPlan | None) -> Iterator[str]:
    """Yield every credential a request brings, also those that this endpoint does not look at."""
    headers = frozenset() if plan is None else frozenset(n for n, _ in plan.admission.headers)
    parameters = frozenset() if plan is None else frozenset(plan.admission.query)
    for field, value in message.headers:
        name, text = field.decode("latin-1"), value.decode("latin-1")
        if name in headers or is_credential(name):
            yield text
            yield from _inside(name, text)
    for part in message.target.partition("?")[2].split("&"):
        parameter, _, given = part.partition("=")
        if unquote_plus(parameter) in parameters or is_credential(unquote_plus(parameter)):
            yield given
            yield unquote_plus(given)


def _inside(name: str, text: str) -> Iterator[str]:
    """Yield what is a credential by itself: a token, user and password, each cookie."""
    if name == "cookie":
        for pair in text.split(";"):
            yield pair.partition("=")[2].strip().strip('"')
        return
    scheme, _, rest = text.partition(" ")
    yield rest.strip()
    if scheme.lower() == "basic":
        yield from _basic(rest.strip())


def _basic(encoded: str) -> Iterator[str]:
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return
    yield decoded
    yield decoded.partition(":")[2]


def _headers(answer: Answer, plan: EndpointPlan | None) -> Iterator[ExplainedHeader]:
    """Name the headers of the answer; only what the configuration says word for word is shown."""
    constant = {} if plan is None else _constant(plan, answer)
    for name, value in answer.headers:
        shown = value if constant.get(name) == value else REDACTED
        yield ExplainedHeader(name=name, value=shown if value else "")
    if answer.location is not None:
        yield ExplainedHeader(name="location", value=REDACTED)


def _constant(plan: EndpointPlan, answer: Answer) -> dict[str, str]:
    response, found = plan.response, {"content-type": "text/plain; charset=utf-8"}
    for one in (*response.answers.values(), response.unauthenticated):
        if one.outcome is answer.outcome:
            found |= _words(one)
    return found


def _words(one: Answering) -> dict[str, str]:
    said = {name: e.source for name, e in one.headers if e is not None and not e.reads}
    return {**said, **dict(one.challenge)}


def _keeping(plan: EndpointPlan, trace: Iterable[Step]) -> Iterator[ExplainedKeeping]:
    """Say of each rule, and of the chain, whether its result is kept."""
    noted = {step.subject: step for step in trace if step.agent == CACHING}
    ran = {step.subject for step in trace if step.agent == "rule execution"}
    kept: list[tuple[str, Caching | None, Iterable[Read]]] = [
        (rule.name, rule.caching, rule.reads) for rule in plan.chain.rules
    ]
    chained = {read for rule in plan.chain.rules for read in rule.reads}
    for name, caching, reads in [(plan.name, plan.chain.caching, chained), *kept]:
        step = noted.get(name)
        if step is not None:
            yield ExplainedKeeping(subject=name, key=step.detail.get("key"), result=step.result)
        elif caching is None:
            yield ExplainedKeeping(subject=name, result=_why_never(reads))
        else:
            result = "not asked" if name not in ran else "not looked up: no credential matched"
            yield ExplainedKeeping(subject=name, result=result)


def _why_never(reads: Iterable[Read]) -> str:
    volatile = sorted({read[0] for read in reads} & VOLATILE)
    if volatile:
        return f"never kept: it reads {', '.join(volatile)}"
    return "never kept: the configuration gives it no time"


def _reads(plan: EndpointPlan) -> Iterator[ExplainedReads]:
    for rule in plan.chain.rules:
        yield ExplainedReads(subject=rule.name, names=_names(rule.reads))
    yield ExplainedReads(subject="response policy", names=_names(plan.response.reads))


def _names(reads: Iterable[Read]) -> tuple[str, ...]:
    return tuple(sorted(".".join(read) for read in reads))
