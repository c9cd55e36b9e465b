"""Create to ready, beside a bare psycopg loop that makes the same roles at the same target."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.databases.workbench import VERIFIER, Load, load
from benchmarks.report import Curve, Table
from gatekeeper.entrypoints.operate.stack import SAMPLE_DATABASE

if TYPE_CHECKING:
    from benchmarks.databases.workbench import Workbench

CALLERS = (1, 8, 32)


async def measure(bench: Workbench, count: int) -> Table:
    await bench.create(callers=4, count=20)
    rows, ours = [], []
    for callers in CALLERS:
        plain = await bare(bench, callers=callers, count=count)
        made = await bench.create(callers=callers, count=count)
        ours.append(made)
        rows.append(
            [str(callers), *_figures(made), *_figures(plain), f"{made.rate / plain.rate:.0%}"]
        )
    return Table(
        title="Create to ready",
        columns=(
            "callers", "per s", "p50 ms", "p99 ms",
            "bare loop: per s", "p50 ms", "p99 ms", "of the bare rate",
        ),
        rows=rows,
        curve=Curve(
            x=CALLERS,
            lines={f"p{p}": [made.milliseconds(p) for made in ours] for p in (50, 99)},
            x_label="callers at once",
            y_label="ms from request to ready",
        ),
    )  # fmt: skip


async def bare(bench: Workbench, *, callers: int, count: int) -> Load:
    """One transaction a login, as a superuser, over connections that are kept."""
    dsn = bench.stack.target.dsn(SAMPLE_DATABASE)
    connections = [
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) for _ in range(callers)
    ]
    free: asyncio.Queue[psycopg.AsyncConnection[Any]] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(connection)

    async def one() -> None:
        connection = await free.get()
        name = f"bare_{secrets.token_hex(8)}"
        await connection.execute(
            f"BEGIN; CREATE ROLE {name} LOGIN PASSWORD '{VERIFIER}'; GRANT app_read TO {name};"
            "COMMIT".encode()
        )
        free.put_nowait(connection)

    measured = await load(one, callers=callers, count=count)
    for connection in connections:
        await connection.close()
    return measured


def _figures(measured: Load) -> list[str]:
    return [
        f"{measured.rate:.0f}",
        f"{measured.milliseconds(50):.1f}",
        f"{measured.milliseconds(99):.1f}",
    ]
