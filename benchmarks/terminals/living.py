"""Many live terminals that write, each with a client: what an echo takes, and what breaks first."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from benchmarks.databases.workbench import percentile
from benchmarks.report import Curve, Table
from benchmarks.terminals.workbench import PARTS, attached, create, hear, stop, until
from gatekeeper.kernel.terminal import term

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from benchmarks.terminals.workbench import Workbench
    from gatekeeper.client.api import AsyncClient

WRITES = "while :; do echo '{line}'; sleep 0.5; done".format(line="x" * 100)
"""About 200 bytes a second of each: as somebody's build does that is looked at."""
ECHOES = "while read -r l; do echo $l-$l; done"
AT_A_TIME = 4
LOOKS = 20
SECONDS = 5.0


async def measure(bench: Workbench, most: int) -> Table:
    """Go up in steps until `most`, or until something is refused or takes too long."""
    rows, xs, echo = [], [], []
    async with bench.client() as client, AsyncExitStack() as closing:
        live: list[str] = []
        asker = await create(client, "/bin/sh", "-c", ECHOES)
        screen = await closing.enter_async_context(attached(client, asker))
        broke = None
        for wanted in _steps(most):
            broke = await _grow(client, closing, live, wanted)
            before, began = bench.used(), time.perf_counter()
            try:
                times = await _echoes(screen)
            except (TimeoutError, OSError) as error:
                broke, times = broke or f"an echo did not come ({type(error).__name__})", [SECONDS]
            after, whole = bench.used(), time.perf_counter() - began
            rows.append(
                [
                    str(len(live)), f"{percentile(times, 50) * 1000:.1f}",
                    f"{percentile(times, 95) * 1000:.1f}",
                    "/".join(f"{after[p].mib:.0f}" for p in PARTS),
                    "/".join(
                        f"{(after[p].cpu_seconds - before[p].cpu_seconds) / whole * 100:.0f}"
                        for p in PARTS
                    ),
                    broke or "",
                ]
            )  # fmt: skip
            xs.append(float(len(live)))
            echo.append(percentile(times, 95) * 1000)
            if broke:
                break
        await closing.aclose()
        for terminal in [asker, *live]:
            await stop(client, terminal, wait=0)
    names = "/".join(PARTS)
    return Table(
        title="Live terminals that write, each watched",
        columns=("live", "echo p50 ms", "echo p95 ms", f"MiB ({names})", f"CPU % ({names})",
                 "what broke"),
        rows=rows,
        curve=Curve(x=xs, lines={"echo p95": echo}, x_label="live terminals", y_label="ms"),
    )  # fmt: skip


def _steps(most: int) -> list[int]:
    return [n for n in (10, 50, 100, 200, 300, 400, 500, 750, 1_000) if n < most] + [most]


async def _grow(
    client: AsyncClient, closing: AsyncExitStack, live: list[str], wanted: int
) -> str | None:
    """Start and watch terminals until so many live; return what broke."""
    places = asyncio.Semaphore(AT_A_TIME)

    async def one() -> None:
        async with places:
            terminal = await create(client, "/bin/sh", "-c", WRITES)
            live.append(terminal)
            socket = await closing.enter_async_context(attached(client, terminal))
            watching = asyncio.create_task(_watch(socket))
            closing.callback(watching.cancel)

    results = await asyncio.gather(
        *(one() for _ in range(wanted - len(live))), return_exceptions=True
    )
    failed = [result for result in results if isinstance(result, Exception)]
    return f"{len(failed)} not started: {failed[0]}"[:160] if failed else None


async def _watch(socket: ClientConnection) -> None:
    while True:
        await hear(socket)


async def _echoes(screen: ClientConnection) -> list[float]:
    times = []
    await screen.send(term.encode_client(term.Take()))
    for number in range(LOOKS):
        text = f"e{number}.{time.monotonic_ns()}"
        async with asyncio.timeout(SECONDS):
            began = time.perf_counter()
            await screen.send(term.encode_client(term.Input(f"{text}\n".encode())))
            await until(screen, f"{text}-{text}".encode())
            times.append(time.perf_counter() - began)
        await asyncio.sleep(0.05)
    return times
