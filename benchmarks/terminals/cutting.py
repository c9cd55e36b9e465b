"""From the end of access to the close that a client sees: revoked over the API, or expired."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from benchmarks.databases.workbench import percentile
from benchmarks.report import Table
from benchmarks.terminals.living import AT_A_TIME, WRITES
from benchmarks.terminals.workbench import attached, create, hear, stop
from gatekeeper.client import operations
from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.platform.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from websockets.asyncio.client import ClientConnection

    from benchmarks.terminals.workbench import Workbench
    from gatekeeper.client.api import AsyncClient

CLOCK = SystemClock()
Revoked = tuple[float, float]
"""Seconds from the call of the API to the close, and from its answer: less than none when the
close came first.
"""
LATE_MS = (10, 100, 1_000)
TTL_SECONDS = 60
"""Of those that expire: all of them live before the first one does."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A live terminal, and when its client is told that it is over."""

    terminal: str
    closed: asyncio.Task[datetime]


async def measure(bench: Workbench, count: int) -> Table:
    """End so many terminals, that write and are watched, in each way."""
    rows = []
    async with bench.client() as client:
        for name, end in {"one after the other": _one_by_one, "all at once": _at_once}.items():
            async with _live(client, count, "30m") as live:
                since_asked, since_answered = zip(*await end(client, live), strict=True)
                rows.append([f"revoked {name}, since it was asked for", *_row(since_asked)])
                rows.append([f"revoked {name}, since the answer", *_row(since_answered)])
        async with _live(client, count, f"{TTL_SECONDS}s") as live:
            rows.append(["expired, each at its time", *_row(await _at_their_time(client, live))])
    return Table(
        title=f"From the end to the close at the client, {count} terminals live that write (ms)",
        columns=("", "p50", "p95", "most", *(f"within {late} ms" for late in LATE_MS)),
        rows=rows,
    )


@asynccontextmanager
async def _live(client: AsyncClient, count: int, ttl: str) -> AsyncIterator[list[Watched]]:
    """Start and watch terminals, some at a time."""
    places = asyncio.Semaphore(AT_A_TIME)
    async with AsyncExitStack() as closing:

        async def one() -> Watched:
            async with places:
                terminal = await create(client, "/bin/sh", "-c", WRITES, ttl=ttl)
                socket = await closing.enter_async_context(attached(client, terminal))
                return Watched(terminal, asyncio.create_task(_closed(socket)))

        yield await asyncio.gather(*(one() for _ in range(count)))


async def _closed(socket: ClientConnection) -> datetime:
    """Watch until the close comes; return when that was."""
    try:
        while True:
            await hear(socket)
    except ConnectionClosed as error:
        now = CLOCK.now()
        if error.rcvd is None or error.rcvd.code not in (CloseCode.REVOKED, CloseCode.EXPIRED):
            raise
        return now


async def _one_by_one(client: AsyncClient, live: Sequence[Watched]) -> Sequence[Revoked]:
    return [await _revoke(client, one) for one in live]


async def _at_once(client: AsyncClient, live: Sequence[Watched]) -> Sequence[Revoked]:
    return await asyncio.gather(*(_revoke(client, one) for one in live))


async def _revoke(client: AsyncClient, one: Watched) -> Revoked:
    asked = CLOCK.now()
    await stop(client, one.terminal, wait=0)
    answered, closed = CLOCK.now(), await one.closed
    return (closed - asked).total_seconds(), (closed - answered).total_seconds()


async def _at_their_time(client: AsyncClient, live: Sequence[Watched]) -> Sequence[float]:
    """Wait for each; the store, whose clock says when, is on this machine."""
    ends = [await _end_of(client, one.terminal) for one in live]
    return [(await one.closed - end).total_seconds() for one, end in zip(live, ends, strict=True)]


async def _end_of(client: AsyncClient, terminal: str) -> datetime:
    view = await client.call(operations.get_terminal(terminal))
    if view.expires_at is None:
        msg = f"{terminal} has no end"
        raise RuntimeError(msg)
    return view.expires_at


def _row(times: Sequence[float]) -> list[str]:
    figures = (percentile(times, 50), percentile(times, 95), max(times))
    parts = (sum(time * 1000 <= late for time in times) / len(times) for late in LATE_MS)
    return [*(f"{value * 1000:.0f}" for value in figures), *(f"{part:.0%}" for part in parts)]
