"""The ladder as bars: each part of the cost on top of the one below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.forwardauth.ladder import Step


def plot(steps: Sequence[Step], path: Path) -> None:
    """Draw CPU per decision, and requests per second of one core."""
    names = [step.name for step in reversed(steps)]
    figure, (cost, rate) = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
    for axis, values, label, form in (
        (cost, [step.cpu_us for step in reversed(steps)], "CPU µs a decision", "%.1f"),
        (rate, [step.per_second for step in reversed(steps)], "requests/s of one core", "%.0f"),
    ):
        bars = axis.barh(names, values)
        axis.bar_label(bars, fmt=form, padding=3)
        axis.set(xlabel=label)
        axis.margins(x=0.15)
        axis.grid(alpha=0.3, axis="x")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
