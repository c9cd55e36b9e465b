"""Create to ready, and access cut at the TTL, beside a bare psycopg loop in the same run.

    python -m benchmarks.databases [SESSIONS]

One stack on this machine (two embedded PostgreSQL servers, control plane and agent, each a
process of its own). The bare loop does the same CREATE ROLE and GRANT at the same target,
one transaction each, as a superuser; its ratio is what holds on another machine.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg

from gatekeeper.client import operations
from gatekeeper.client.api import AsyncClient
from gatekeeper.entrypoints.operate.stack import SAMPLE_DATABASE, Stack
from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret
from gatekeeper.wire.sessions import CreateSession, ScramCredential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

VERIFIER = scram.make_verifier(Secret("benchmark"), b"s" * 16)
CALLERS = (1, 8, 32)


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack", port=4410, agent_port=4411, report=lambda *_: None)
        async with stack:
            policy = stack.home / "policy.yaml"
            policy.write_text(
                policy.read_text()
                .replace("sessionsPerPrincipal: 50", "sessionsPerPrincipal: 100000")
                .replace("requestsPerMinute: 600", "requestsPerMinute: 10000000")
            )
            await asyncio.sleep(1.5)
            token = await log_in(stack.url)
            print(f"{'':<26}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}")
            for callers in CALLERS:
                show(f"bare psycopg, {callers} at once", *await bare(stack, callers, count))
                show(f"gatekeeper, {callers} at once", *await create(stack, token, callers, count))
            await expire(stack, token, count)


async def create(
    stack: Stack, token: Secret, callers: int, count: int, ttl: str = "30m"
) -> tuple[list[float], float]:
    """Ask for sessions and wait until each is ready; return times in seconds, and the whole."""
    body = CreateSession(
        target="pg-local", role="app_read", ttl=ttl, reason="benchmark",
        credential=ScramCredential(kind="scram-sha-256", verifier=VERIFIER),
    )  # fmt: skip
    async with AsyncClient(stack.url, token, correlation_id="cor_benchmark") as client:

        async def one() -> None:
            key = secrets.token_urlsafe(12)
            await client.call(operations.create_session(body, idempotency_key=key, wait=30))

        return await load(one, callers, count)


async def bare(stack: Stack, callers: int, count: int) -> tuple[list[float], float]:
    connections = [
        await psycopg.AsyncConnection.connect(stack.target.dsn(SAMPLE_DATABASE), autocommit=True)
        for _ in range(callers)
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

    measured = await load(one, callers, count)
    for connection in connections:
        await connection.close()
    return measured


async def load(
    one: Callable[[], Awaitable[None]], callers: int, count: int
) -> tuple[list[float], float]:
    times: list[float] = []
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await one()
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return times, time.perf_counter() - began


async def expire(stack: Stack, token: Secret, count: int) -> None:
    """Let sessions end together; read from the evidence how late each was cut and proven."""
    await create(stack, token, 16, count, ttl="30s")
    async with await psycopg.AsyncConnection.connect(stack.store.dsn(), autocommit=True) as store:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            cursor = await store.execute(
                "SELECT count(*) FROM gatekeeper.session WHERE ttl = '30s' AND status <> 'cleaned'"
            )
            row = await cursor.fetchone()
            if row is not None and row[0] == 0:
                break
            await asyncio.sleep(0.5)
        await asyncio.sleep(1)
        cursor = await store.execute(
            "SELECT (convert_from(canonical, 'UTF8')::jsonb->'data'->>'accessCutLagMs')::float8"
            " FROM gatekeeper.audit_event WHERE kind = 'session.cleaned'"
        )
        lags = [row[0] / 1000 for row in await cursor.fetchall()]
    print(f"\naccess cut after the TTL, {len(lags)} sessions that end within a few seconds:")
    show("lag", lags, sum(lags))


async def log_in(url: str) -> Secret:
    async with httpx.AsyncClient(base_url=f"{url}/dev-issuer", trust_env=False) as http:
        begun = (await http.post("/device_authorization", data={"client_id": "gk"})).json()
        await http.post("/device", data={"user_code": begun["user_code"], "user": "dana"})
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": begun["device_code"],
        }
        return Secret((await http.post("/token", data=form)).json()["id_token"])


def show(what: str, times: list[float], whole: float) -> None:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"{what:<26}{len(times) / max(whole, 1e-9):>8.0f}"
        f"{statistics.median(ordered) * 1000:>9.1f}{p99 * 1000:>9.1f}"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
