"""What one gateway process counts. Counting is an addition; Prometheus' types are made at a look.

Names are documented in docs/reference/metrics.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds from a request's head to its 101."""


class Counters:
    __slots__ = ("_buckets", "_seconds", "closes", "connects", "down_bytes", "down_stalled",
                 "open", "up_bytes", "up_stalled")  # fmt: skip

    def __init__(self) -> None:
        self.open = 0
        """Sockets that are spliced now."""
        self.connects: dict[str, int] = defaultdict(int)
        """By result: `accepted`, or the code of the refusal."""
        self.closes: dict[str, int] = defaultdict(int)
        """By why: `client`, `runner`, a violation's side, or the code that we closed with."""
        self.down_bytes = 0
        """From runners to clients."""
        self.up_bytes = 0
        self.down_stalled = 0.0
        """Seconds in which a runner was not read, as its client did not take more."""
        self.up_stalled = 0.0
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def accepted(self, seconds: float) -> None:
        self.connects["accepted"] += 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """Give Prometheus what was counted."""
        yield GaugeMetricFamily(
            "gatekeeper_gateway_sockets", "Clients that are joined to a runner.", value=self.open
        )
        yield _counter("connects", "Requests to attach.", "result", self.connects)
        yield _counter("closes", "Ends of joined clients.", "why", self.closes)
        yield _counter(
            "bytes", "Bytes passed on.", "direction", {"down": self.down_bytes, "up": self.up_bytes}
        )
        yield _counter(
            "stalled_seconds",
            "Time in which one side was not read as the other took no more.",
            "direction",
            {"down": self.down_stalled, "up": self.up_stalled},
        )
        setup = HistogramMetricFamily(
            "gatekeeper_gateway_setup_seconds", "From a request to its 101."
        )
        total, cumulated = 0, []
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], self._buckets, strict=True):
            total += count
            cumulated.append((bound, total))
        setup.add_metric([], cumulated, sum_value=self._seconds)
        yield setup


def _counter(name: str, text: str, label: str, counts: dict[str, int] | dict[str, float]) -> Metric:
    family = CounterMetricFamily(f"gatekeeper_gateway_{name}", text, labels=[label])
    for word, count in list(counts.items()):
        family.add_metric([word], count)
    return family
