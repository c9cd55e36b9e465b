"""What a proxied terminal costs, measured on this machine in one run.

    python -m benchmarks.gateway [--only NAME ...] [--clients N ...] [--out FOLDER]

nginx, HAProxy and the gateway proxy the same upstream on a unix socket, each in one process on
one core; the upstream and the clients share another. The gateway checks a ticket of its own for
each client and uses it up in a real PostgreSQL; `gateway, no store` has a dictionary instead, to
show what is ours of a set-up. nginx and HAProxy check nothing.

`many` puts more clients than one process may have files for into several gateway processes on
that core, with a store, over load processes and upstreams of their own; no other proxy is there.

Needs taskset, nginx and haproxy, and two file descriptors for each client in each process.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks.gateway import crowd, measuring
from benchmarks.gateway.servers import LOAD_CORE, NAMES, Ground, ground, proxy
from benchmarks.report import Curve, Report, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

MEASUREMENTS = ("idle", "setup", "latency", "flow", "stalled", "many")
WITH_STORE = NAMES[:3]


def idle_table(on: Ground, asked: argparse.Namespace) -> Table:
    found = {}
    for name in WITH_STORE:
        with proxy(name, on) as one:
            found[name] = uvloop.run(measuring.idle(one, asked.clients))
    rows = [[name, *(f"{each.kib:.1f}" for each in figures)] for name, figures in found.items()]
    return Table(
        title="KiB of each idle client",
        columns=("proxy", *(f"{count:,} clients" for count in asked.clients)),
        rows=rows,
        curve=Curve(
            x=asked.clients,
            lines={name: [each.kib for each in figures] for name, figures in found.items()},
            x_label="idle clients",
            y_label="KiB each",
        ),
    )


def setup_table(on: Ground, asked: argparse.Namespace) -> Table:
    rows = []
    for name in NAMES:
        with proxy(name, on) as one:
            found = uvloop.run(measuring.set_up(one, asked.setups))
        rows.append(
            [name, f"{found.per_second:,.0f}", f"{found.cpu_us:.0f}", f"{found.p50_ms:.1f}"]
        )
    columns = ("proxy", "per second", "CPU µs each", f"p50 ms, {measuring.CONNECTING} at a time")
    return Table(title="Set-up", columns=columns, rows=rows)


def latency_table(on: Ground, asked: argparse.Namespace) -> Table:
    rows = []
    for name in WITH_STORE:
        with proxy(name, on) as one:
            found = uvloop.run(measuring.latency(one, asked.rounds))
        rows.append([name, f"{found.p50_us:.0f}", f"{found.p99_us:.0f}"])
    return Table(title="Echo of 32 bytes", columns=("proxy", "p50 µs", "p99 µs"), rows=rows)


def flow_table(on: Ground, asked: argparse.Namespace) -> Table:
    flows = (1, 40)
    rows, lines = [], {}
    for name in WITH_STORE:
        with proxy(name, on) as one:
            found = [uvloop.run(measuring.flow(one, each, asked.mebibytes)) for each in flows]
        rows.append(
            [name, *(f"{each.mb_per_second:,.0f} ({each.cpu_per_gib:.2f})" for each in found)]
        )
        lines[name] = [each.mb_per_second for each in found]
    return Table(
        title="MB/s to clients (CPU s a GiB)",
        columns=("proxy", *(f"{each} flows" for each in flows)),
        rows=rows,
        curve=Curve(x=flows, lines=lines, x_label="flows", y_label="MB/s"),
    )


def stalled_table(on: Ground, asked: argparse.Namespace) -> Table:
    rows = []
    for name in WITH_STORE:
        with proxy(name, on) as one:
            rows.append([name, f"{uvloop.run(measuring.stalled(one, asked.readers)):.0f}"])
    return Table(
        title=f"{asked.readers} clients that never read", columns=("proxy", "KiB each"), rows=rows
    )


def many_table(on: Ground, asked: argparse.Namespace) -> Table:
    with proxy("gateway", on, processes=asked.processes) as one:
        found = uvloop.run(crowd.many(one, asked.sockets, asked.processes))
    shares = f"{min(found.shares):,} to {max(found.shares):,}"
    return Table(
        title=f"{asked.sockets:,} idle clients over {asked.processes} processes",
        columns=("KiB each", "MiB of all processes", "clients of a process"),
        rows=[[f"{found.kib:.1f}", f"{found.mib:.0f}", shares]],
    )


TABLES = {
    "idle": idle_table,
    "setup": setup_table,
    "latency": latency_table,
    "flow": flow_table,
    "stalled": stalled_table,
    "many": many_table,
}


def tables(asked: argparse.Namespace) -> Iterator[Table]:
    files = crowd.raise_files()
    asked.processes = asked.processes or crowd.fewest_processes(asked.sockets, files)
    upstreams = math.ceil(asked.sockets / crowd.CLIENTS) if "many" in asked.only else 1
    with tempfile.TemporaryDirectory() as folder, ground(Path(folder), upstreams=upstreams) as on:
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        for name in asked.only:
            yield TABLES[name](on, asked)


def main(asked: argparse.Namespace) -> None:
    report = Report()
    for table in tables(asked):
        report.add(table)
    if asked.out is not None:
        report.write(asked.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--clients", type=int, nargs="+", default=[1_000, 5_000, 9_000])
    parser.add_argument("--setups", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--mebibytes", type=int, default=2_048)
    parser.add_argument("--readers", type=int, default=40)
    parser.add_argument("--sockets", type=int, default=20_000, help="of `many`")
    parser.add_argument("--processes", type=int, help="of `many`: as few as their files allow")
    parser.add_argument("--out", type=Path, help="a folder for the tables and a plot")
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
