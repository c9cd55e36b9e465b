"""From the click to the first byte: a shell is asked for, attached to, and writes.

Asked one after the other on a machine that has nothing else to do, and by several at a time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks.databases.workbench import percentile
from benchmarks.report import Table
from benchmarks.terminals.workbench import attached, create, hear, stop

if TYPE_CHECKING:
    from benchmarks.terminals.workbench import Workbench
    from gatekeeper.client.api import AsyncClient

Step = tuple[float, float, float]
"""Seconds until ready, until the socket is open, until the first byte; each since the click."""


async def measure(bench: Workbench, count: int) -> Table:
    """Measure shells with and without a database login."""
    cases: dict[str, dict[str, Any]] = {
        "a shell": {},
        "a shell with a database login": {"database": {"target": "pg-local", "role": "app_read"}},
    }
    rows = []
    async with bench.client() as client:
        await _open(client)  # what is made at the first use is made
        for name, more in cases.items():
            steps = [await _open(client, **more) for _ in range(count)]
            rows += [[name, what, *_row(times)] for what, times in _columns(steps)]
    return Table(
        title="Click to first byte, over the API and a WebSocket (ms)",
        columns=("terminal", "until", "p50", "p95", "most"),
        rows=rows,
    )


async def _open(client: AsyncClient, **more: Any) -> Step:
    began = time.perf_counter()
    terminal = await create(client, "/bin/sh", "-c", "echo first; read -r l", **more)
    ready = time.perf_counter() - began
    async with attached(client, terminal) as socket:
        open_after = time.perf_counter() - began
        while not await hear(socket):
            pass
        first = time.perf_counter() - began
    await stop(client, terminal)
    return ready, open_after, first


def _columns(steps: list[Step]) -> list[tuple[str, list[float]]]:
    names = ("it takes clients", "the socket is open", "the first byte")
    return [(name, [step[n] for step in steps]) for n, name in enumerate(names)]


def _row(times: list[float]) -> list[str]:
    return [
        f"{value * 1000:.0f}"
        for value in (percentile(times, 50), percentile(times, 95), max(times))
    ]
