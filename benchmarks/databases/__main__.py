"""Every speed claim of the database plane, measured on this machine in one run.

    python -m benchmarks.databases [--sessions N] [--live N] [--only NAME ...] [--out FOLDER]

Prints tables; with `--out` also writes them and a plot. Ratios are what holds on another
machine: each is taken beside a bare loop in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.databases import audit, cut, issue, live, memory, startup
from benchmarks.databases.workbench import workbench
from benchmarks.report import Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.report import Table

MEASUREMENTS = ("issue", "memory", "cut", "live", "audit", "startup")


async def measurements(asked: argparse.Namespace) -> AsyncIterator[Table]:
    if {"issue", "memory"} & set(asked.only):
        async with workbench() as bench:
            if "issue" in asked.only:
                yield await issue.measure(bench, asked.sessions)
            if "memory" in asked.only:
                yield await memory.measure(bench)
    if "cut" in asked.only:
        async with workbench() as bench:
            yield await cut.measure(bench, asked.live)
    if "live" in asked.only:
        yield await live.measure(asked.live)
    if "audit" in asked.only:
        yield await audit.measure(asked.events)
    if "startup" in asked.only:
        yield startup.measure()


async def main(asked: argparse.Namespace) -> None:
    report = Report()
    async for table in measurements(asked):
        report.add(table)
    if asked.out is not None:
        report.write(asked.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.databases", description=__doc__)
    parser.add_argument("--sessions", type=int, default=500, help="for each row of issue")
    parser.add_argument("--live", type=int, default=10_000, help="live sessions and logins")
    parser.add_argument("--events", type=int, default=20_000, help="of the evidence")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--out", type=Path, help="a folder for the tables and a plot")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
