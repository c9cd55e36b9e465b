"""Runs a candidate configuration beside the active one, on every live request.

It begins after the active answer was given, one loop turn later, and never more than
`MAX_AT_ONCE` at a time: what is too much is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gatekeeper.forwardauth.model import Decided, Reply
from gatekeeper.forwardauth.redaction import Redactor
from gatekeeper.forwardauth.shadow import Calls, Made, differences, remembering

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from gatekeeper.forwardauth.dialects import Dialect
    from gatekeeper.forwardauth.model import RawRequest
    from gatekeeper.forwardauth.ports import Observer
    from gatekeeper.forwardauth.service import Decider

    _Ask = Callable[[Decider], Reply | Awaitable[Reply]]

log = structlog.get_logger("gatekeeper.forwardauth.shadow")

MAX_AT_ONCE: Final = 64
SECONDS_BETWEEN_LINES: Final = 1.0
"""Of the log: a difference is counted always, and told at most so often."""


class LastDecided:
    """An observer that remembers the last decision, besides telling another one.

    Whoever is given an answer runs at once after it was told here, so that the last is theirs.
    """

    def __init__(self, told: Observer | None = None) -> None:
        self._told = told
        self.last: Decided | None = None

    def decided(self, decided: Decided) -> None:
        self.last = decided
        if self._told is not None:
            self._told.decided(decided)

    def failed(self, error: BaseException) -> None:
        if self._told is not None:
            self._told.failed(error)


class Shadowing:
    """Decides as the active configuration does, and has the candidate follow.

    `observed` observes the active decider; `clock` gives seconds.
    """

    def __init__(
        self, active: Decider, observed: LastDecided, *, clock: Callable[[], float]
    ) -> None:
        self._active = active
        self._observed = observed
        self._clock = clock
        self._candidate: tuple[Decider, LastDecided] | None = None
        self._at_once = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_line = 0.0
        self.compared: dict[tuple[str, str, str], int] = defaultdict(int)
        self.different: dict[tuple[str, str, str], int] = defaultdict(int)
        self.skipped = {"saturated": 0, "call not made": 0, "no candidate": 0}

    def take(self, candidate: Decider, observed: LastDecided) -> None:
        """Let a candidate follow from the next request on."""
        self._candidate = (candidate, observed)

    def leave(self) -> None:
        """Let none follow."""
        self._candidate = None

    def decide(self, raw: RawRequest) -> Reply | Awaitable[Reply]:
        """Answer as the active configuration does."""
        return self._followed(lambda decider: decider.decide(raw))

    def decide_about(
        self, endpoint: str, dialect: Dialect, raw: RawRequest
    ) -> Reply | Awaitable[Reply]:
        """Answer as the active configuration does."""
        return self._followed(lambda decider: decider.decide_about(endpoint, dialect, raw))

    def _followed(self, ask: _Ask) -> Reply | Awaitable[Reply]:
        reply = ask(self._active)
        if isinstance(reply, Reply):
            self._follow(ask, reply, None)
            return reply
        return self._awaited(ask, reply)

    async def _awaited(self, ask: _Ask, answer: Awaitable[Reply]) -> Reply:
        calls = Calls()
        remembering(calls)
        reply = await answer
        self._follow(ask, reply, calls)
        return reply

    def _follow(self, ask: _Ask, reply: Reply, calls: Calls | None) -> None:
        decided = self._observed.last
        if decided is None or self._candidate is None:
            self.skipped["no candidate"] += 1
        elif self._at_once >= MAX_AT_ONCE:
            self.skipped["saturated"] += 1
        else:
            self._at_once += 1
            loop = asyncio.get_running_loop()
            loop.call_soon(self._begin, ask, Made(decided, reply), calls or Calls())

    def _begin(self, ask: _Ask, active: Made, calls: Calls) -> None:
        if self._candidate is None:
            self._at_once -= 1
            return
        candidate, observed = self._candidate
        reply = ask(candidate)
        if isinstance(reply, Reply):
            self._at_once -= 1
            self._compare(active, reply, observed, calls)
            return
        task = asyncio.get_running_loop().create_task(
            self._finish(reply, active, observed, calls), name="shadow"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(
        self, answer: Awaitable[Reply], active: Made, observed: LastDecided, calls: Calls
    ) -> None:
        remembering(calls)
        try:
            self._compare(active, await answer, observed, calls)
        finally:
            self._at_once -= 1

    def _compare(self, active: Made, reply: Reply, observed: LastDecided, calls: Calls) -> None:
        decided = observed.last
        assert decided is not None  # noqa: S101  # it has just decided
        if calls.lacking:
            self.skipped["call not made"] += 1
            return
        candidate = Made(decided, reply)
        # Both are names of a configuration, or empty: nothing a client made up.
        endpoint = active.decided.endpoint or decided.endpoint
        if not endpoint:  # a path of neither
            return
        key = (endpoint, active.decided.outcome.value, decided.outcome.value)
        self.compared[key] += 1
        different = differences(active, candidate)
        if different:
            self.different[key] += 1
            self._tell(active.decided, decided, different)

    def _tell(self, active: Decided, candidate: Decided, different: tuple[str, ...]) -> None:
        now = self._clock()
        if now < self._next_line or self._candidate is None:
            return
        self._next_line = now + SECONDS_BETWEEN_LINES
        generations = (self._active.generation, self._candidate[0].generation)
        redactor = Redactor(secret.reveal() for one in generations for secret in one.secrets)
        log.warning(
            "the candidate decides otherwise",
            endpoint=active.endpoint or candidate.endpoint,
            correlation_id=active.request_id,
            different=list(different),
            active=active.outcome.value,
            active_status=active.status,
            active_reason=redactor.text(active.reason),
            candidate=candidate.outcome.value,
            candidate_status=candidate.status,
            candidate_reason=redactor.text(candidate.reason),
        )

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def collect(self) -> Iterator[Metric]:
        """Give Prometheus what was counted."""
        labels = ["endpoint", "active", "candidate"]
        for name, text, counts in (
            ("passctrl_shadow_decisions", "Decisions compared with a candidate's.", self.compared),
            ("passctrl_shadow_differences", "Those that were otherwise.", self.different),
        ):
            family = CounterMetricFamily(name, text, labels=labels)
            for key, count in list(counts.items()):
                family.add_metric(key, count)
            yield family
        skipped = CounterMetricFamily(
            "passctrl_shadow_skipped", "Decisions not compared, by reason.", labels=["reason"]
        )
        for reason, count in self.skipped.items():
            skipped.add_metric([reason], count)
        yield skipped
        generation = 0 if self._candidate is None else self._candidate[0].generation.number
        yield GaugeMetricFamily(
            "passctrl_shadow_generation", "The candidate; 0: there is none.", value=generation
        )
