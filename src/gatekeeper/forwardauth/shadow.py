"""A candidate configuration beside the active one: what it may ask, and what is compared.

A candidate has no effect. Where it asks a backend what the active decision asked too, it is given
the same answer. Another call it makes itself when its method is safe (RFC 9110 section 9.2.1);
any other is not made, and the decision is not compared: nobody knows how it would have ended.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.forwardauth.model import BackendResponse

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import BackendRequest, Decided, Reply
    from gatekeeper.forwardauth.ports import Backends

SAFE: Final = frozenset({"GET", "HEAD"})
MAX_CALLS: Final = 32
"""Of one decision that are remembered for its candidate."""


class Calls:
    """The backend calls of one decision, and whether its candidate lacks one."""

    def __init__(self) -> None:
        self.answers: dict[BackendRequest, BackendResponse] = {}
        self.lacking = False


_CALLS: ContextVar[Calls | None] = ContextVar("calls", default=None)


def remembering(calls: Calls) -> None:
    """Have the calls of this task remembered, or given, from now on."""
    _CALLS.set(calls)


class Remembered:
    """Backends of the active configuration: what they answer is remembered for the candidate."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def call(self, request: BackendRequest) -> BackendResponse:
        response = await self._backends.call(request)
        calls = _CALLS.get()
        if calls is not None and len(calls.answers) < MAX_CALLS:
            calls.answers[request] = response
        return response


class Careful:
    """Backends of a candidate."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def call(self, request: BackendRequest) -> BackendResponse:
        calls = _CALLS.get() or Calls()
        known = calls.answers.get(request)
        if known is not None:
            return known
        if request.method in SAFE:
            return await self._backends.call(request)
        calls.lacking = True
        return BackendResponse(error="a candidate makes no call that may have an effect")


class Made(NamedTuple):
    """A decision, and what went back for it."""

    decided: Decided
    reply: Reply


def differences(active: Made, candidate: Made) -> tuple[str, ...]:
    """Name what is otherwise: outcome, status, body, headers by name. Never a value."""
    found = []
    if active.decided.outcome is not candidate.decided.outcome:
        found.append("outcome")
    if active.reply.status != candidate.reply.status:
        found.append("status")
    if active.reply.body != candidate.reply.body:
        found.append("body")
    here, there = set(active.reply.headers), set(candidate.reply.headers)
    found += sorted({f"header {name}" for name, _ in here ^ there})
    return tuple(found)
