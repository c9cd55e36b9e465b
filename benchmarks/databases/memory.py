"""What each process of a stack holds after the load: its proportional set size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Table

if TYPE_CHECKING:
    from benchmarks.databases.workbench import Workbench


async def measure(bench: Workbench) -> Table:
    stack = bench.stack
    processes = {child.name: [child.pid] for child in stack.children}
    for name, server in (("store", stack.store), ("target", stack.target)):
        processes[f"PostgreSQL: {name}"] = [server.pid, *_children(server.pid)]
    return Table(
        title="Memory",
        columns=("process", "processes", "MiB (PSS)"),
        rows=[
            [name, str(len(pids)), f"{sum(map(_pss_mib, pids)):.0f}"]
            for name, pids in processes.items()
        ],
    )


def _children(pid: int | None) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def _pss_mib(pid: int | None) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
