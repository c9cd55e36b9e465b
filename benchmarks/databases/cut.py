"""Access cut: from the TTL to the holder's socket closed, while issuing goes on.

All sessions are live at once. Then one of them ends, then a tenth of them in the same
second, then all that are left in the same second. Their ends are moved in the store, so
that they fall together; everything after that is the product's own work. Some holders keep
a connection open and say when it closed; the evidence says the same of every session.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.databases.workbench import CHEAP_VERIFIER, ask, percentile
from benchmarks.report import Curve, Table
from gatekeeper.entrypoints.operate.stack import SAMPLE_DATABASE
from gatekeeper.platform.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from benchmarks.databases.workbench import Workbench

CLOCK = SystemClock()
HOLDERS = 40
LEAD_SECONDS = 3.0
PATIENCE_SECONDS = 600.0


async def measure(bench: Workbench, count: int) -> Table:
    await bench.create(callers=16, count=count, verifier=CHEAP_VERIFIER)
    rows, sizes, cuts, proofs = [], [], [], []
    async with await psycopg.AsyncConnection.connect(
        bench.stack.store.dsn(), autocommit=True
    ) as store:
        for ending in (1, count // 10, count - 1 - count // 10):
            names = await _some_ready(store, ending)
            sockets, issue, evidence = await _end(bench, store, names)
            cut = [row[0] / 1000 for row in evidence]
            gone = [row[1] / 1000 for row in evidence]
            sizes.append(ending)
            cuts.append(percentile(cut, 99))
            proofs.append(percentile(gone, 99))
            rows.append(
                [
                    str(ending),
                    *_figures(sockets), *_figures(cut), *_figures(gone),
                    f"{percentile(issue, 50) * 1000:.0f}" if issue else "-",
                ]
            )  # fmt: skip
    return Table(
        title=f"Access cut after the TTL, {count} sessions live",
        columns=(
            "end in the same second", "sockets closed: p50 s", "p99 s",
            "no backend seen: p50 s", "p99 s", "proven gone: p50 s", "p99 s",
            "issue p50 ms meanwhile",
        ),
        rows=rows,
        curve=Curve(
            x=sizes,
            lines={"no backend seen, p99": cuts, "proven gone, p99": proofs},
            x_label="sessions that end in the same second",
            y_label="seconds after the TTL",
            log_x=True,
        ),
    )  # fmt: skip


async def _some_ready(store: psycopg.AsyncConnection[Any], count: int) -> Sequence[str]:
    cursor = await store.execute(
        "SELECT id FROM gatekeeper.session WHERE status = 'ready'"
        " AND expires_at > clock_timestamp() + interval '1 minute'"
        " ORDER BY created_at LIMIT %s",
        (count,),
    )
    return [row[0] for row in await cursor.fetchall()]


async def _end(
    bench: Workbench, store: psycopg.AsyncConnection[Any], sessions: Sequence[str]
) -> tuple[Sequence[float], Sequence[float], Sequence[tuple[float, float]]]:
    """Let sessions end together; return the lags of sockets, the issue times, the evidence."""
    every = max(1, len(sessions) // HOLDERS)
    holders = [await _hold(bench, session) for session in sessions[::every][:HOLDERS]]
    ends = CLOCK.now() + timedelta(seconds=LEAD_SECONDS)
    await _move(store, sessions, ends)
    stop = asyncio.Event()
    issuing = asyncio.create_task(_issue_on(bench, stop))
    closed = await asyncio.gather(*(_closed(held) for held in holders))
    evidence = await _evidence(store, sessions)
    stop.set()
    return [(when - ends).total_seconds() for when in closed], await issuing, evidence


async def _hold(bench: Workbench, session: str) -> psycopg.AsyncConnection[Any]:
    name = "gk_" + session.removeprefix("ses_")
    dsn = make_conninfo(bench.stack.target.dsn(SAMPLE_DATABASE), user=name, password="benchmark")
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


async def _closed(connection: psycopg.AsyncConnection[Any]) -> datetime:
    """Return when the server said that the connection ended."""
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), heard.set)
    await asyncio.wait_for(heard.wait(), PATIENCE_SECONDS)
    when = CLOCK.now()
    loop.remove_reader(connection.fileno())
    await connection.close()
    return when


async def _move(
    store: psycopg.AsyncConnection[Any], sessions: Sequence[str], ends: datetime
) -> None:
    async with store.transaction():
        await store.execute(
            "UPDATE gatekeeper.session SET expires_at = %s WHERE id = ANY(%s)",
            (ends, list(sessions)),
        )
        await store.execute(
            "UPDATE gatekeeper.job SET due_at = %s WHERE id = ANY(%s)",
            (ends, [f"end:{session}" for session in sessions]),
        )
        await store.execute("SELECT pg_notify('gatekeeper_job', 'end')")


async def _issue_on(bench: Workbench, stop: asyncio.Event) -> Sequence[float]:
    times = []
    async with bench.client() as client:
        while not stop.is_set():
            began = time.perf_counter()
            await ask(client, verifier=CHEAP_VERIFIER)
            times.append(time.perf_counter() - began)
    return times


async def _evidence(
    store: psycopg.AsyncConnection[Any], sessions: Sequence[str]
) -> Sequence[tuple[float, float]]:
    """Return, for each session, when its access was cut and proven gone after its TTL, in ms."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        cursor = await store.execute(
            "SELECT (data->>'accessCutLagMs')::float8, (data->>'lagMs')::float8 FROM ("
            " SELECT convert_from(canonical, 'UTF8')::jsonb->'data' AS data"
            " FROM gatekeeper.audit_event WHERE kind = 'session.cleaned'"
            " AND session_id = ANY(%s)) AS e",
            (list(sessions),),
        )
        found = await cursor.fetchall()
        if len(found) == len(sessions):
            return found
        await asyncio.sleep(0.25)
    msg = "not every session was cleaned in time"
    raise TimeoutError(msg)


def _figures(values: Sequence[float]) -> list[str]:
    return [f"{percentile(values, p):.2f}" for p in (50, 99)]
