"""What is seen of decisions: a line in the log, and counters for Prometheus.

Counting is a dictionary and a few additions; Prometheus' own types are made when somebody
looks. Labels are names from the configuration and words from closed lists, never a client's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from gatekeeper.platform.telemetry.lines import LineWriter, encode_text
from gatekeeper.platform.telemetry.logs import redact
from gatekeeper.wire.forwardauth import RecentDecision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from gatekeeper.forwardauth.agents.server import Generation
    from gatekeeper.forwardauth.errors import Problem
    from gatekeeper.forwardauth.model import Decided
    from gatekeeper.forwardauth.service import Decider

log = structlog.get_logger("passctrl")

BUCKETS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    30.0,
)
"""Seconds. A decision without a backend is done within the first."""


RECENT: Final = 200
"""Decisions that are remembered, for `/explain?id=`."""


class Observer:
    """Counts decisions and writes a line for each. `clock` gives seconds of Unix time."""

    def __init__(self, *, clock: Callable[[], float], lines: LineWriter | None) -> None:
        self._clock = clock
        self._lines = lines
        self._decisions: dict[tuple[str, str, str, int, str], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._recent: deque[Decided] = deque(maxlen=RECENT)
        self._remember = self._recent.append
        self.defects = 0
        self.reloads = {"taken": 0, "rejected": 0}
        self._watched: Decider | None = None

    def watch(self, decider: Decider) -> None:
        """Show what this decider has in force, and how much it keeps."""
        self._watched = decider
        for one in decider.generation.skipped:
            log.warning("left out", kind=one.kind, name=one.name, reason=one.reason)

    async def rejected(self, _problems: tuple[Problem, ...]) -> None:
        """Count a changed configuration that was not taken. Its watcher has told why."""
        self.reloads["rejected"] += 1

    def taken(self, generation: Generation) -> None:
        """Count a configuration that was taken."""
        self.reloads["taken"] += 1
        log.info("configuration taken", generation=generation.number, digest=generation.digest)

    def decided(self, decided: Decided) -> None:
        endpoint, dialect, outcome, status, reason, origin, seconds, request_id, generation = (
            decided
        )
        self._remember(decided)
        self._decisions[endpoint, dialect, outcome, status, origin] += 1
        buckets = self._buckets.get(endpoint)
        if buckets is None:
            buckets = self._buckets[endpoint] = [0] * (len(BUCKETS) + 1)
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds[endpoint] += seconds
        if self._lines is not None:
            why = f',"reason":{encode_text(redact(reason))}' if reason else ""
            self._lines.write(
                f'{{"timestamp":{self._clock():.3f},"component":"passctrl",'
                f'"agent":"response policy","endpoint":"{endpoint}","dialect":"{dialect}",'
                f'"outcome":"{outcome}","status":{status},"latency_ms":{seconds * 1000:.3f},'
                f'"from_cache":{"false" if origin == "fresh" else "true"},'
                f'"generation":{generation},"correlation_id":{encode_text(request_id)}{why}}}'
            )

    def recent(self, correlation_id: str) -> RecentDecision | None:
        """Return the last decision of this correlation id, if it is remembered."""
        for decided in reversed(self._recent):
            if decided.request_id == correlation_id:
                return RecentDecision(
                    correlation_id=decided.request_id,
                    endpoint=decided.endpoint,
                    dialect=decided.dialect,
                    outcome=decided.outcome,
                    status=decided.status,
                    reason=redact(decided.reason),
                    origin=decided.origin,
                    latency_ms=round(decided.seconds * 1000, 3),
                    generation=decided.generation,
                )
        return None

    def failed(self, error: BaseException) -> None:
        """Tell of a defect: its type and place, never its text, which may hold anything."""
        self.defects += 1
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}"
        log.error("a decision failed", error=type(error).__name__, where=where)

    def collect(self) -> Iterator[Metric]:
        """Give Prometheus what was counted."""
        decisions = CounterMetricFamily(
            "passctrl_decisions", "Decisions by endpoint, dialect, outcome, status and origin.",
            labels=["endpoint", "dialect", "outcome", "status", "origin"],
        )  # fmt: skip
        for (endpoint, dialect, outcome, status, origin), count in list(self._decisions.items()):
            decisions.add_metric([endpoint, dialect, outcome, str(status), origin], count)
        yield decisions
        yield self._durations()
        yield CounterMetricFamily("passctrl_defects", "Decisions that failed.", value=self.defects)
        reloads = CounterMetricFamily(
            "passctrl_reloads", "Changed configurations by result.", labels=["result"]
        )
        for result, count in self.reloads.items():
            reloads.add_metric([result], count)
        yield reloads
        if self._watched is not None:
            generation = self._watched.generation
            yield GaugeMetricFamily(
                "passctrl_results_kept", "Results in memory.", value=len(self._watched.memory)
            )
            yield GaugeMetricFamily(
                "passctrl_generation", "The configuration in force.", value=generation.number
            )
            yield GaugeMetricFamily(
                "passctrl_skipped_definitions", "Definitions left out of it.",
                value=len(generation.skipped),
            )  # fmt: skip

    def _durations(self) -> Metric:
        family = HistogramMetricFamily(
            "passctrl_decision_seconds", "Time of a decision, by endpoint.", labels=["endpoint"]
        )
        for endpoint, counts in list(self._buckets.items()):
            total, cumulated = 0, []
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts, strict=True):
                total += count
                cumulated.append((bound, total))
            family.add_metric([endpoint], cumulated, sum_value=self._seconds[endpoint])
        return family
