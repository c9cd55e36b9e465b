"""What a terminal costs: from the click to the first byte, and hundreds of them at a time.

    python -m benchmarks.terminals [--opens N] [--starts N] [--live N] [--cuts N]
                                   [--only NAME ...] [--out FOLDER]

Prints tables; with `--out` also writes them and a plot. All parts, the clients too, share this
machine.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Report
from benchmarks.terminals import cutting, first_byte, in_page, living, starting
from benchmarks.terminals.workbench import workbench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.report import Table

MEASUREMENTS = ("first-byte", "page", "starting", "living", "cutting")


async def measurements(asked: argparse.Namespace) -> AsyncIterator[Table]:
    async with workbench() as bench:
        if "first-byte" in asked.only:
            yield await first_byte.measure(bench, asked.opens)
        if "page" in asked.only:
            yield await in_page.measure(bench, asked.opens)
        if "starting" in asked.only:
            yield await starting.measure(bench, asked.starts)
        if "living" in asked.only:
            yield await living.measure(bench, asked.live)
        if "cutting" in asked.only:
            yield await cutting.measure(bench, asked.cuts)


async def main(asked: argparse.Namespace) -> None:
    report = Report()
    async for table in measurements(asked):
        report.add(table)
    if asked.out is not None:
        report.write(asked.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.terminals", description=__doc__)
    parser.add_argument("--opens", type=int, default=50, help="terminals opened one by one")
    parser.add_argument("--starts", type=int, default=100, help="for each row of starting")
    parser.add_argument("--live", type=int, default=500, help="live terminals at most")
    parser.add_argument("--cuts", type=int, default=100, help="live terminals that are ended")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--out", type=Path, help="a folder for the tables and a plot")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
