"""Tables on the terminal and in a file, and one plot of all measurements."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One panel of the plot: named lines over the same x axis."""

    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one measurement found."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    curve: Curve | None = field(default=None)

    def markdown(self) -> str:
        lines = [
            f"### {self.title}",
            "",
            "| " + " | ".join(self.columns) + " |",
            "|" + "---|" * len(self.columns),
            *("| " + " | ".join(row) + " |" for row in self.rows),
        ]
        return "\n".join(lines)


class Report:
    """Prints tables as they come; at the end it can write all of them, and a plot."""

    def __init__(self) -> None:
        self._tables: list[Table] = []
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")

    def add(self, table: Table) -> None:
        print(table.markdown() + "\n", flush=True)
        self._tables.append(table)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(table.markdown() for table in self._tables) + "\n"
        (folder / "figures.md").write_text(text, encoding="utf-8")
        plot(self._tables, folder / "figures.svg")
        print(f"written to {folder}")


def plot(tables: Sequence[Table], path: Path) -> None:
    """Draw the curves of all tables side by side, as SVG."""
    drawn = [(table.title, table.curve) for table in tables if table.curve is not None]
    if not drawn:
        return
    figure, axes = plt.subplots(1, len(drawn), figsize=(5.5 * len(drawn), 4), squeeze=False)
    for axis, (title, curve) in zip(axes[0], drawn, strict=True):
        for name, values in curve.lines.items():
            axis.plot(curve.x, values, marker="o", label=name)
        axis.set(title=title, xlabel=curve.x_label, ylabel=curve.y_label)
        if curve.log_x:
            axis.set_xscale("symlog", linthresh=1)
        if curve.log_y:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
