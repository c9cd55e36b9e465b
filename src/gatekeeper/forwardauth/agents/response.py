"""Agent 8, response policy: what is answered for an outcome.

What it may read is what a kept result restores: the request, the endpoint's variables and what
rules exported. A part that has no value turns the answer into an error; its reason stays inside.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gatekeeper.forwardauth.agents.compiling import Compiler, reads_of
from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.model import Answer, Outcome, Scope
from gatekeeper.forwardauth.vocabulary import OF_A_RULE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.agents.evaluation import Evaluation
    from gatekeeper.forwardauth.config.endpoint import (
        Authentication,
        Challenge,
        Endpoint,
        Redirect,
        Refusing,
    )
    from gatekeeper.forwardauth.model import OriginalRequest, Read
    from gatekeeper.forwardauth.ports import Expression

STATUS: Final = {Outcome.FAIL: 403, Outcome.ERROR: 502}
UNAUTHENTICATED: Final = 401
ERROR: Final = Answer(Outcome.ERROR, 500)
NOT_YET: Final = frozenset(
    {"admission.authenticated", "forward.headers", "vars.global", "rules", "response"}
)
"""What nobody has made when a request is not admitted."""
MAX_HEADER_CHARS: Final = 8_192
_UNFIT: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirecting:
    to: Expression
    hosts: frozenset[str]
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """How one outcome is answered, compiled."""

    outcome: Outcome
    status: int
    headers: tuple[tuple[str, Expression | None], ...] = ()
    challenge: tuple[tuple[str, str], ...] = ()
    body: Expression | None = None
    redirect: Redirecting | None = None
    constant: Answer | None = None
    """The answer itself, when it is the same for every request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePlan:
    answers: Mapping[Outcome, Answering]
    unauthenticated: Answering
    reads: frozenset[Read]


def compile_response(config: Endpoint, compiler: Compiler) -> ResponsePlan:
    where = compiler.at("responsePolicy")
    policy, authentication = config.response_policy, config.authentication
    passing = Answering(
        outcome=Outcome.PASS,
        status=200,
        headers=where.at("pass", "headers").copied(policy.pass_.headers),
    )
    refusing = [
        _refusing(outcome, given, where.at(outcome.value), status=STATUS[outcome])
        for outcome, given in ((Outcome.FAIL, policy.fail), (Outcome.ERROR, policy.error))
    ]
    refused = _unauthenticated(authentication, compiler.at("authentication", "response"))
    answers = [passing, *refusing]
    reads = reads_of(*map(_expressions, answers))
    _check_reads(reads, where)
    before = reads_of(_expressions(refused))
    _check_early(before, compiler.at("authentication", "response"))
    return ResponsePlan(
        answers={answer.outcome: _with_constant(answer) for answer in answers},
        unauthenticated=_with_constant(refused),
        reads=reads | before,
    )


def _refusing(outcome: Outcome, given: Refusing, compiler: Compiler, *, status: int) -> Answering:
    redirect = None
    if given.redirect is not None:
        redirect = _redirecting(given.redirect, compiler.at("redirect"))
    return Answering(
        outcome=outcome,
        status=given.status or status,
        headers=compiler.at("headers").copied(given.headers),
        body=compiler.body(given.body, given.body_file),
        redirect=redirect,
    )


def _unauthenticated(config: Authentication, compiler: Compiler) -> Answering:
    answer = _refusing(Outcome.FAIL, config.response, compiler, status=UNAUTHENTICATED)
    if config.challenge is None:
        return answer
    return dataclasses.replace(
        answer, challenge=(("www-authenticate", _challenge(config.challenge)),)
    )


def _challenge(challenge: Challenge) -> str:
    """Write a challenge (RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 7617 section 2)."""
    realm = challenge.realm.replace("\\", "\\\\").replace('"', '\\"')
    charset = f', charset="{challenge.charset}"' if challenge.charset else ""
    return f'{challenge.type.capitalize()} realm="{realm}"{charset}'


def _redirecting(config: Redirect, compiler: Compiler) -> Redirecting:
    return Redirecting(
        to=compiler.at("to").template(config.to),
        hosts=frozenset(host.lower() for host in config.hosts),
        status=config.status,
    )


def _expressions(answer: Answering) -> tuple[object, ...]:
    return (answer.headers, answer.body, answer.redirect and answer.redirect.to)


def _check_reads(reads: frozenset[Read], compiler: Compiler) -> None:
    names = {read[0] for read in reads}
    if "secrets" in names:
        compiler.fault("a response may not read secrets")
    for name in sorted(names & OF_A_RULE):
        compiler.fault(
            f"a response does not see {name}; let the rule export it (responses.*.variables)"
        )


def _check_early(reads: frozenset[Read], compiler: Compiler) -> None:
    """Check the answer that is given before anything but the request was looked at."""
    _check_reads(reads, compiler)
    for name in sorted({read[0] for read in reads} & NOT_YET):
        compiler.fault(f"a response to who is not admitted does not see {name}")


def _with_constant(answer: Answering) -> Answering:
    """Make the answer now when nothing in it depends on the request."""
    parts = [expression for _, expression in answer.headers]
    parts += [answer.body] if answer.body is not None else []
    if answer.redirect is not None or any(part is None or part.reads for part in parts):
        return answer
    try:
        constant = _answer(answer, None, Scope({}))
    except EvaluationError:
        return answer
    return dataclasses.replace(answer, constant=constant)


def respond(plan: Answering, evaluation: Evaluation) -> Answer:
    """Make the answer; an error without any detail when a part of it has no value."""
    if plan.constant is not None:
        return plan.constant
    try:
        return _answer(plan, evaluation.request, evaluation.scope)
    except EvaluationError as error:
        return ERROR._replace(reason=f"responsePolicy.{plan.outcome}: {error}")


def _answer(plan: Answering, request: OriginalRequest | None, scope: Scope) -> Answer:
    headers = list(plan.challenge)
    for name, expression in plan.headers:
        value = _copied(name, request) if expression is None else expression(scope).strip()
        if value or plan.outcome is Outcome.PASS:
            headers.append((name, _checked(name, value)))
    location = None if plan.redirect is None else _location(plan.redirect, scope)
    body = b"" if plan.body is None else plan.body(scope).encode()
    if body and all(name != "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain; charset=utf-8"))
    status = plan.status if plan.redirect is None else plan.redirect.status
    return Answer(plan.outcome, status, tuple(headers), body, location)


def _copied(name: str, request: OriginalRequest | None) -> str:
    """Copy the client's own header; of several, what all of them say together."""
    value = b"" if request is None else request.fields.get(name.encode("ascii"), b"")
    return value.decode("latin-1")


def _checked(name: str, value: str) -> str:
    """Refuse what would end a header and begin another (CVE-2023-27493), or is no single byte."""
    if len(value) > MAX_HEADER_CHARS or _UNFIT.search(value):
        msg = f"headers.{name}: not a header's value"
        raise EvaluationError(msg)
    return value


def _location(plan: Redirecting, scope: Scope) -> str:
    """Return where to; another host only when it is one of those named, compared exactly.

    Browsers take a slash and a backslash, two slashes, or tabs between them for the start of
    another host (CVE-2020-11053).
    """
    to: str = plan.to(scope)
    plain = to.isascii() and to.isprintable() and " " not in to and "\\" not in to
    if plain and to.startswith("/") and not to.startswith("//"):
        return to
    try:
        parts = urlsplit(to)
        host = parts.netloc.lower()
    except ValueError:
        plain, host = False, ""
    if not plain or parts.scheme not in ("http", "https") or host not in plan.hosts:
        msg = "redirect.to leads to a host that is not in redirect.hosts"
        raise EvaluationError(msg)
    return to
