"""How many sandboxes are started a second, and what each of them holds in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.databases.workbench import load
from benchmarks.report import Curve, Table
from benchmarks.terminals.workbench import PARTS, create, pss_mib, stop, under

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.terminals.workbench import Workbench
    from gatekeeper.client.api import AsyncClient

CALLERS = (1, 2, 4, 8)


async def measure(bench: Workbench, count: int) -> Table:
    """Start `count` terminals with so many callers at a time, and end them again."""
    rows, rates = [], []
    async with bench.client() as client:
        for callers in CALLERS:
            made: list[str] = []
            before = bench.used()
            runner = before["runner"]

            async def one(made: list[str] = made) -> None:
                made.append(await create(client, "/bin/sleep", "1000"))

            started = await load(one, callers=callers, count=count)
            after = bench.used()
            pids = under(_runner(bench))
            inside = sum(map(pss_mib, pids)) / len(made)
            await load(_stopper(client, made), callers=8, count=len(made))
            rates.append(started.rate)
            cpu = [
                f"{(after[part].cpu_seconds - before[part].cpu_seconds) * 1000 / count:.0f}"
                for part in PARTS
            ]
            rows.append(
                [
                    str(callers), f"{started.rate:.1f}", f"{started.milliseconds(50):.0f}",
                    f"{started.milliseconds(95):.0f}", "/".join(cpu),
                    f"{inside:.2f}", f"{len(pids) / len(made):.1f}",
                    f"{(after['runner'].mib - runner.mib) / len(made):.2f}",
                ]
            )  # fmt: skip
    return Table(
        title="Sandboxes started",
        columns=(
            "at a time", "a second", "p50 ms", "p95 ms", f"CPU ms each ({'/'.join(PARTS)})",
            "MiB inside each", "processes of each", "MiB of the runner for each",
        ),
        rows=rows,
        curve=Curve(
            x=CALLERS, lines={"started": rates}, x_label="asked at a time", y_label="a second"
        ),
    )  # fmt: skip


def _runner(bench: Workbench) -> int | None:
    return next(child.pid for child in bench.stack.children if child.name == "runner")


def _stopper(client: AsyncClient, made: Sequence[str]) -> Callable[[], Awaitable[None]]:
    left = iter(made)

    async def one() -> None:
        await stop(client, next(left))

    return one
