"""Decides: takes what arrived at the decision port, drives a decision, says what goes back.

A decision that needs nothing from outside is answered at once; any other becomes a coroutine.
Whatever goes wrong on the way is an error to the proxy, which refuses.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gatekeeper.forwardauth.agents import caching
from gatekeeper.forwardauth.decision import decide
from gatekeeper.forwardauth.dialects import DIALECTS, Mount, mount
from gatekeeper.forwardauth.model import (
    Answer,
    CallBackend,
    Claim,
    Decided,
    FindSessions,
    Outcome,
    RawRequest,
    Rejected,
    Reply,
    RuleResult,
    Settle,
    VerifyToken,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatekeeper.forwardauth.agents.memory import Memory
    from gatekeeper.forwardauth.agents.server import Generation
    from gatekeeper.forwardauth.dialects import Dialect
    from gatekeeper.forwardauth.model import Effect, Steps
    from gatekeeper.forwardauth.ports import Backends, Observer, Sessions, SharedCache, Tokens

DECISION_SECONDS: Final = 30.0
"""The longest any decision may take, whatever its backends are allowed."""
FLIGHT_SECONDS: Final = 10.0
"""The longest a decision waits for another's result: enough is left to make its own."""
MAX_ID_CHARS: Final = 128

NOT_FOUND: Final = Answer(Outcome.ERROR, 404, reason="no such endpoint")
QUARANTINED: Final = Answer(Outcome.ERROR, 503, reason="the endpoint is quarantined")
DEFECT: Final = Answer(Outcome.ERROR, 500, reason="a defect")
NOBODY: Final = Rejected(503, "nobody is configured who could be asked")
LATE: Final = Answer(Outcome.ERROR, 503, reason="the decision took too long")

_NOWHERE: Final = Mount("auth", "", b"")
_FAILED: Final = DIALECTS["auth"].write(DEFECT)

_Flight = asyncio.Future["RuleResult | None"]
_Led = dict[bytes, _Flight]
"""The flights a decision leads: what it makes, others wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What decisions need from outside, and the time of it."""

    backends: Backends
    tokens: Tokens | None
    sessions: Sessions | None
    shared: SharedCache | None
    seal: bytes
    """Secret by which entries of the shared cache are known to be ours."""
    clock: Callable[[], float]
    """Seconds of Unix time; it does not go back while the process lives."""
    new_id: Callable[[], str]


class _Asked(NamedTuple):
    """Who asks about what, for the log."""

    endpoint: str
    dialect: Dialect
    started: float
    request_id: str
    generation: int


class Decider:
    """Judges requests by the generation in force."""

    def __init__(
        self,
        generation: Generation,
        outside: Outside,
        *,
        observer: Observer,
        memory: Memory,
        correlation_header: str,
    ) -> None:
        self.generation = generation
        self.memory = memory
        self._outside = outside
        self._observer = observer
        self._correlation = correlation_header.encode("ascii")
        self._flights: _Led = {}

    def replace(self, generation: Generation) -> None:
        """Judge by another generation from the next request on."""
        self.generation = generation
        self.memory.clear()

    def decide(self, raw: RawRequest) -> Reply | Awaitable[Reply]:
        """Answer one request of a proxy, at the mount its target names. Never raises."""
        mounted = mount(raw.target) or _NOWHERE
        told = RawRequest(raw.method, mounted.rest, raw.headers, raw.peer)
        return self.decide_about(mounted.endpoint, DIALECTS[mounted.dialect], told)

    def decide_about(
        self, endpoint: str, dialect: Dialect, raw: RawRequest
    ) -> Reply | Awaitable[Reply]:
        """Answer one request of a proxy of this kind. Never raises."""
        generation = self.generation
        plan = generation.plans.get(endpoint)
        known = endpoint if plan is not None or endpoint in generation.quarantined else ""
        asked = _Asked(
            known, dialect, self._outside.clock(), self._request_id(raw), generation.number
        )
        if plan is None:
            return self._finished(asked, QUARANTINED if known else NOT_FOUND)
        recall, parts = plan.recall, None
        try:
            request = dialect.read(raw, plan.reading)
            if isinstance(request, Rejected):
                return self._finished(asked, _answer_of(request))
            parts = None if recall is None else recall.parts(request)
            if recall is not None and (known_answer := recall.get(parts)) is not None:
                return self._finished(asked, known_answer)
            steps = decide(
                plan,
                request,
                memory=self.memory,
                now=asked.started,
                request_id=asked.request_id,
            )
            effect = next(steps)
        except StopIteration as done:
            if recall is not None:
                recall.keep(parts, done.value)
            return self._finished(asked, done.value)
        except Exception as error:  # noqa: BLE001  # whatever it was: refuse
            self._observer.failed(error)
            return self._finished(asked, DEFECT)
        return self._awaited(asked, steps, effect)

    async def _awaited(self, asked: _Asked, steps: Steps[Answer], effect: Effect) -> Reply:
        try:
            async with asyncio.timeout(DECISION_SECONDS):
                answer = await self._drive(steps, effect)
        except TimeoutError:
            answer = LATE
        except Exception as error:  # noqa: BLE001  # as above
            self._observer.failed(error)
            answer = DEFECT
        return self._finished(asked, answer)

    async def _drive(self, steps: Steps[Answer], effect: Effect) -> Answer:
        """Give a decision what it asks for until it has its answer."""
        led: _Led = {}
        try:
            while True:
                effect = steps.send(await self._perform(effect, led))
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        finally:
            for key in list(led):
                self._land(key, led, None)

    async def _perform(self, effect: Effect, led: _Led) -> Any:  # noqa: ANN401  # by effect
        match effect:
            case CallBackend(request):
                return await self._outside.backends.call(request)
            case VerifyToken(issuer, token):
                tokens = self._outside.tokens
                return NOBODY if tokens is None else await tokens.verify(issuer, token)
            case FindSessions(token):
                sessions = self._outside.sessions
                return NOBODY if sessions is None else await sessions.live(token)
            case Claim(key):
                return await self._claim(key, led)
            case Settle(key, result):
                return await self._settle(key, led, result)

    async def perform_aside(self, effect: Effect) -> Any:  # noqa: ANN401  # by effect
        """Give what a decision asks for that is none: nothing is kept, and nobody waits for it."""
        match effect:
            case Claim(key):
                return await self._shared(key)
            case Settle(_, _):
                return None
            case _:
                return await self._perform(effect, {})

    async def _shared(self, key: bytes) -> RuleResult | None:
        """Return what the shared cache keeps, if it is ours and not past."""
        shared = self._outside.shared
        sealed = None if shared is None else await shared.get(key)
        kept = None if sealed is None else caching.decode(sealed, key, self._outside.seal)
        return kept if kept is not None and kept.until > self._outside.clock() else None

    async def _claim(self, key: bytes, led: _Led) -> RuleResult | None:
        """Find a kept result, or the one another request is making; None: make it."""
        flight = self._flights.get(key)
        if flight is not None:
            # That this request is given up, or tired of waiting, is nothing to the others.
            await asyncio.wait([flight], timeout=FLIGHT_SECONDS)
            landed = flight.result() if flight.done() else None
            if landed is not None and landed.until > self._outside.clock():
                return landed._replace(origin="flight")
            return None
        led[key] = self._flights[key] = asyncio.get_running_loop().create_future()
        kept = await self._shared(key)
        if kept is None:
            return None
        self.memory.put(key, kept, self._outside.clock())
        self._land(key, led, kept)
        return kept

    async def _settle(self, key: bytes, led: _Led, result: RuleResult) -> None:
        now = self._outside.clock()
        self.memory.put(key, result, now)
        self._land(key, led, result)
        if self._outside.shared is not None and result.until > now:
            sealed = caching.encode(result, key, self._outside.seal)
            await self._outside.shared.put(key, sealed, result.until - now)

    def _land(self, key: bytes, led: _Led, result: RuleResult | None) -> None:
        """End a flight this decision leads; of one it only waited for, the leader sees to it."""
        flight = led.pop(key, None)
        if flight is not None:
            del self._flights[key]
            flight.set_result(result)

    def _request_id(self, raw: RawRequest) -> str:
        """Take the proxy's correlation id when it is a plain one, else make one."""
        for name, value in raw.headers:
            if name == self._correlation:
                text = value.decode("latin-1")
                if len(text) <= MAX_ID_CHARS and text.isascii() and text.isprintable() and text:
                    return text
                break
        return self._outside.new_id()

    def _finished(self, asked: _Asked, answer: Answer) -> Reply:
        endpoint, dialect, started, request_id, generation = asked
        try:
            reply = dialect.write(answer)
            self._observer.decided(
                Decided(
                    endpoint,
                    dialect.name,
                    answer.outcome,
                    answer.status,
                    answer.reason,
                    answer.origin,
                    self._outside.clock() - started,
                    request_id,
                    generation,
                )
            )
        except Exception as error:  # noqa: BLE001  # what is not seen is not allowed
            self._observer.failed(error)
            return _FAILED
        return reply


def _answer_of(rejected: Rejected) -> Answer:
    return Answer(Outcome.FAIL, rejected.status, reason=rejected.reason)
