"""A runner's metrics. Names are documented in docs/reference/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from gatekeeper.terminals.runner.counting import Counters
    from gatekeeper.terminals.runner.host import Host


class RunnerMetrics:
    """Gives Prometheus what was counted, and what is to be seen now."""

    def __init__(self, host: Host, counters: Counters, reported_ago: Callable[[], float]) -> None:
        self._host = host
        self._counters = counters
        self._reported_ago = reported_ago
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        counters, live = self._counters, [one for one in self._host.sessions if one.live]
        output = counters.output_bytes + sum(one.stream.written for one in live)
        recorded = counters.recorded_bytes + sum(one.recording.size for one in live)
        viewers = sum(len(one.stream.watchers) for one in self._host.sessions)
        yield _gauge("terminals", "Terminals that run.", len(live))
        yield _gauge("capacity", "Terminals that may run at a time.", self._host.capacity)
        yield _gauge("viewers", "Clients that are attached.", viewers)
        yield _gauge("report_age_seconds", "Since a report was taken.", self._reported_ago())
        yield _counter("launches", "Terminals that were started.", counters.launches)
        yield _counter("output_bytes", "Written by terminals.", output)
        yield _counter("recorded_bytes", "In closed segments.", recorded)
        ends = CounterMetricFamily("gatekeeper_runner_ends", "By why.", labels=["ending"])
        for ending, count in counters.ends.items():
            ends.add_metric([ending], count)
        yield ends


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gatekeeper_runner_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"gatekeeper_runner_{name}", text, value=value)
