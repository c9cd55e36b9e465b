"""Decides about a request that is told, with answers that were recorded. Nothing is kept.

The decision is the one that the decision port makes: the same plan, read by the same dialect.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.model import (
    BackendPage,
    BackendRequest,
    BackendResponse,
    CallBackend,
    FindSessions,
    LiveSession,
    OriginalRequest,
    Rejected,
    VerifyToken,
)
from gatekeeper.forwardauth.rehearsal.message import message_of
from gatekeeper.forwardauth.rehearsal.telling import dialect_called, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatekeeper.forwardauth.agents.server import EndpointPlan
    from gatekeeper.forwardauth.config.base import DialectName
    from gatekeeper.forwardauth.config.recorded import Recorded, RecordedAnswer, RecordedRequest
    from gatekeeper.forwardauth.model import Effect, RuleResult, Steps

T = TypeVar("T")

NOBODY: Final = "0.0.0.0"  # noqa: S104  # who asks where no proxy is trusted
LATER: Final = 4_102_444_800
"""When recorded claims expire that do not say so: 2100-01-01, in seconds of Unix time."""
NOT_RECORDED: Final = "no recorded answer fits"


def original(
    plan: EndpointPlan, request: RecordedRequest | str, dialect: DialectName
) -> OriginalRequest | Rejected:
    """Return the request as the endpoint sees it, told by a proxy that it trusts."""
    message = message_of(request)
    if isinstance(message, Rejected):
        return message
    spoken = dialect_called(dialect)
    peer = plan.reading.trusted.example() or NOBODY
    return spoken.read(told(message, spoken, peer), plan.reading)


class Glance(Memory):
    """Sees what another memory keeps, and changes nothing in it."""

    def __init__(self, seen: Memory | None = None) -> None:
        super().__init__(0)
        self._seen = seen

    def get(self, key: bytes, now: float) -> RuleResult | None:
        return None if self._seen is None else self._seen.peek(key, now)

    def put(self, key: bytes, result: RuleResult, now: float) -> None:
        """Keep nothing."""


def replay(steps: Steps[T], recorded: Recorded) -> T:
    """Bring a decision to its end with recorded answers alone."""
    try:
        effect = next(steps)
        while True:
            found = answer(effect, recorded)
            effect = steps.send(refusal(effect) if found is None else found)
    except StopIteration as done:
        result: T = done.value
        return result


def answer(effect: Effect, recorded: Recorded) -> Any:  # noqa: ANN401  # by the effect
    """Return the recorded answer to what a decision asks; None when there is none."""
    match effect:
        case CallBackend(request):
            return next(
                (_response(a, request) for a in recorded.backends if _fits(a, request)), None
            )
        case VerifyToken(issuer, _):
            claims = recorded.tokens.get(issuer)
            return None if claims is None else {"exp": LATER, **claims}
        case FindSessions(_) if recorded.sessions:
            return tuple(
                LiveSession(id=s.id, target=s.target, role=s.role, expires_at=s.expires_at)
                for s in recorded.sessions
            )
        case _:
            return None


def refusal(effect: Effect) -> Any:  # noqa: ANN401  # by the effect
    """Return what a decision is told for which there is no answer; claims are never kept."""
    match effect:
        case CallBackend(request):
            return BackendResponse(error=f"{NOT_RECORDED}: {request.method} {request.url}")
        case VerifyToken(_, _):
            return Rejected(401, NOT_RECORDED)
        case FindSessions(_):
            return ()
        case _:
            return None


def _fits(recorded: RecordedAnswer, request: BackendRequest) -> bool:
    if recorded.method not in (None, request.method):
        return False
    return recorded.url in (request.url, request.url.partition("?")[0])


def _response(recorded: RecordedAnswer, request: BackendRequest) -> BackendResponse:
    if recorded.error is not None:
        return BackendResponse(error=recorded.error)
    headers = {name.lower(): value for name, value in recorded.headers.items()}
    text = recorded.body_text
    if text is None:
        text = "" if recorded.body is None else json.dumps(recorded.body)
        headers.setdefault("content-type", "application/json")
    page = BackendPage(
        url=request.url,
        status=recorded.status,
        headers=headers,
        body=recorded.body,
        body_text=text,
    )
    return BackendResponse(
        status=page.status,
        headers=page.headers,
        body=page.body,
        body_text=page.body_text,
        pages=(page,),
    )


async def run(steps: Steps[T], perform: Callable[[Effect], Awaitable[Any]]) -> T:
    """Bring a decision to its end with what `perform` gives for each effect."""
    try:
        effect = next(steps)
        while True:
            effect = steps.send(await perform(effect))
    except StopIteration as done:
        result: T = done.value
        return result
