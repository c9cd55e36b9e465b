"""Every speed claim of forward auth, measured on this machine in one run.

    python -m benchmarks.forwardauth [--seconds N] [--only NAME ...] [--out FOLDER]

Each server is pinned to one core and asked by wrk on another, over kept-alive connections, by
many different requests in turn. CPU time is read in /proc, so it holds on a machine that is
shared; requests per second and latencies do so less. The decision log is on, into a file, and
so are the metrics. Prints tables; with `--out` also writes them and a plot.

Needs wrk, taskset and nginx (a wheel or Debian's).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.forwardauth import ladder, many, scaling
from benchmarks.forwardauth.load import missing
from benchmarks.forwardauth.plot import plot
from benchmarks.report import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.forwardauth.ladder import Step

MEASUREMENTS = ("alone", "hot", "nginx", "many", "reload", "scaling")
COLUMNS = ("CPU µs a decision", "req/s", "p50 ms", "p99 ms", "failed")


def row(step: Step) -> list[str]:
    figures = (f"{step.cpu_us:.1f}", f"{step.per_second:,.0f}", f"{step.p50:.2f}")
    return [step.name, *figures, f"{step.p99:.2f}", str(step.failed)]


def ladder_table(steps: Sequence[Step]) -> Table:
    rows = [[*row(step), f"{step.memory.anonymous:.0f} + {step.memory.file:.0f}"] for step in steps]
    return Table(
        title="One core decides, the other one asks",
        columns=("server", *COLUMNS, "MiB (own + of files)"),
        rows=rows,
    )


def behind_table(steps: Sequence[Step]) -> Table:
    rows = [[*row(step), "" if step.proxy_us is None else f"{step.proxy_us:.1f}"] for step in steps]
    return Table(
        title="Behind nginx with auth_request, which shares a core with the clients",
        columns=("who decides", *COLUMNS, "CPU µs of nginx"),
        rows=rows,
    )


def tables(asked: argparse.Namespace, folder: Path) -> Iterator[Table]:
    if "alone" in asked.only:
        steps = list(ladder.alone(folder, asked.seconds))
        yield ladder_table(steps)
        if asked.out is not None:
            plot(steps, asked.out / "figures.svg")
    if "hot" in asked.only:
        yield Table(
            title="The code alone: from the bytes of a request to those of its answer",
            columns=("decision", "CPU µs"),
            rows=[[name, f"{cost:.1f}"] for name, cost in ladder.hot(folder)],
        )
    if "nginx" in asked.only:
        yield behind_table(list(ladder.behind_nginx(folder, asked.seconds)))
    if "many" in asked.only:
        rows = [
            [*row(step), f"{step.memory.resident:.0f}"] for step in many.used(folder, asked.seconds)
        ]
        yield Table(title="Many rules", columns=("used", *COLUMNS, "MiB"), rows=rows)
        seconds = many.load_seconds(folder)
        yield Table(
            title="Load", columns=("rules", "CPU s"), rows=[[f"{many.RULES:,}", f"{seconds:.2f}"]]
        )
    if "reload" in asked.only:
        rows = [
            [
                f"{one.rules:,}",
                f"{one.steady_p50:.2f}",
                f"{one.steady_p99:.2f}",
                f"{one.p50:.2f}",
                f"{one.p99:.2f}",
                f"{one.p99 / one.steady_p99:.1f}x",
                str(one.taken),
                str(one.failed),
            ]
            for one in many.reloaded(folder)
        ]
        yield Table(
            title="Reload under load",
            columns=(
                "rules", "steady p50 ms", "p99 ms", "meanwhile p50 ms", "p99 ms", "p99", "taken",
                "failed",
            ),
            rows=rows,
        )  # fmt: skip
    if "scaling" in asked.only:
        rows = [
            [*row(step), ", ".join(f"{one.resident:.0f}" for one in memories)]
            for _, step, memories in scaling.scaled(folder, asked.seconds)
        ]
        yield Table(title="Workers", columns=("workers", *COLUMNS, "MiB each"), rows=rows)


def main(asked: argparse.Namespace) -> None:
    if (lacking := missing()) is not None:
        sys.exit(lacking)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as folder:
        for table in tables(asked, Path(folder)):
            print(table.markdown() + "\n", flush=True)
            written.append(table.markdown())
    if asked.out is not None:
        (asked.out / "tables.md").write_text("\n\n".join(written) + "\n", encoding="utf-8")
        print(f"written to {asked.out}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forwardauth", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each round of a row")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--out", type=Path, help="a folder for the tables and a plot")
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
