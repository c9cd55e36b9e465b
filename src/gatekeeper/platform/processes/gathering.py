"""All workers as one: what they count is added up, and all must be ready."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gatekeeper.platform.processes.asking import Ask, Words

_Key = tuple[str, tuple[tuple[str, str], ...]]
"""A sample: its name and labels."""
_GAUGE: Final = "gauge"


class Gathering:
    """Asks every worker. One that does not answer is not ready, and keeps what it counted."""

    def __init__(self, workers: Sequence[Ask], *, name: str) -> None:
        """Metrics of the workers as a whole begin with `name`."""
        self._name = name
        self.workers = tuple(workers)
        self._counted = [_Counted() for _ in workers]
        self._families: dict[str, tuple[str, str]] = {}

    async def unready(self) -> tuple[str, ...]:
        """Say why not every worker does its work, each reason once; empty when all do."""
        reasons: list[str] = []
        for number, said in enumerate(await self.all({"ask": "ready"}), 1):
            reasons += [f"worker {number} does not answer"] if said is None else said["reasons"]
        return tuple(dict.fromkeys(reasons))

    async def metrics(self) -> bytes:
        """Return what all workers counted, in the text format of Prometheus."""
        gauges: list[dict[_Key, float]] = []
        said = await self.all({"ask": "metrics"})
        for counted, told in zip(self._counted, said, strict=True):
            gauges.append({})
            if told is not None:
                families: Sequence[Mapping[str, Any]] = told["families"]
                self._families |= {one["name"]: (one["help"], one["type"]) for one in families}
                gauges[-1] |= _samples(one for one in families if one["type"] == _GAUGE)
                counts = _samples(one for one in families if one["type"] != _GAUGE)
                counted.take(told["worker"], counts)
        registry = CollectorRegistry()
        registry.register(_Collected(self._name, self._families, self._counted, gauges))
        return generate_latest(registry)

    async def all(self, question: Words) -> list[Words | None]:
        return list(await asyncio.gather(*(asked(ask, question) for ask in self.workers)))


def _samples(families: Iterable[Mapping[str, Any]]) -> Iterator[tuple[_Key, float]]:
    for family in families:
        for name, labels, value in family["samples"]:
            yield (name, tuple(labels.items())), value


async def asked(ask: Ask, question: Words) -> Words | None:
    try:
        return await ask(question) or None
    except (OSError, TimeoutError, ValueError):
        return None


class _Counted:
    """What the workers in one place counted, one after the other: it never goes back.

    A worker that took the place of another begins at nothing, which Prometheus would take for
    a reset of the sum.
    """

    def __init__(self) -> None:
        self._worker: int | None = None
        self._before: dict[_Key, float] = defaultdict(float)
        self._now: dict[_Key, float] = {}

    def take(self, worker: int, samples: Iterable[tuple[_Key, float]]) -> None:
        if worker != self._worker:
            for key, value in self._now.items():
                self._before[key] += value
        self._worker, self._now = worker, dict(samples)

    def total(self) -> Iterator[tuple[_Key, float]]:
        for key in self._before.keys() | self._now.keys():
            yield key, self._before.get(key, 0.0) + self._now.get(key, 0.0)


class _Collected:
    """Sums of counters and histograms; of gauges each worker's own, with its number."""

    def __init__(
        self,
        name: str,
        families: Mapping[str, tuple[str, str]],
        counted: Sequence[_Counted],
        gauges: Sequence[Mapping[_Key, float]],
    ) -> None:
        self._name = name
        self._families = families
        self._counted = counted
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        sums: dict[_Key, float] = defaultdict(float)
        for counted in self._counted:
            for key, value in counted.total():
                sums[key] += value
        for name, (text, kind) in self._families.items():
            family = Metric(name, text, kind)
            for (sample, labels), value in sorted(sums.items(), key=_in_order):
                if _belongs(sample, name):
                    family.add_sample(sample, dict(labels), value)
            for number, gauges in enumerate(self._gauges, 1):
                for (sample, labels), value in gauges.items():
                    if sample == name:
                        family.add_sample(sample, {**dict(labels), "worker": str(number)}, value)
            yield family
        yield GaugeMetricFamily(
            f"{self._name}_workers",
            "Workers that answer.",
            value=sum(bool(one) for one in self._gauges),
        )


def _belongs(sample: str, family: str) -> bool:
    return sample in (
        family,
        *(f"{family}{end}" for end in ("_total", "_bucket", "_sum", "_count")),
    )


def _in_order(item: tuple[_Key, float]) -> Any:  # noqa: ANN401  # what can be compared
    """Put the buckets of a histogram in the order of their bounds."""
    (name, labels), _ = item
    bound = float(dict(labels).get("le", 0))
    return [pair for pair in labels if pair[0] != "le"], name, bound
