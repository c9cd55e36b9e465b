"""What the measurements share: a whole stack on this machine, load, and a table."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from gatekeeper.client import operations
from gatekeeper.client.api import AsyncClient
from gatekeeper.entrypoints.operate.stack import Stack
from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret
from gatekeeper.wire.sessions import CreateSession, ScramCredential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

VERIFIER: Final = scram.make_verifier(Secret("benchmark"), b"s" * 16)
CHEAP_VERIFIER: Final = scram.make_verifier(Secret("benchmark"), b"s" * 16, 1)
"""Where many logins are only the scenery: the server runs its iterations at every CREATE ROLE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What some callers met: the time of each call, and of all together, in seconds."""

    times: Sequence[float]
    whole: float

    @property
    def rate(self) -> float:
        return len(self.times) / self.whole

    def milliseconds(self, percent: int) -> float:
        return percentile(self.times, percent) * 1000


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile by the nearest rank; 50 is the median."""
    if percent == 50:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


async def load(one: Callable[[], Awaitable[object]], *, callers: int, count: int) -> Load:
    """Make `count` calls, so many at a time, each caller's next when its last has ended."""
    times: list[float] = []
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await one()
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Load(times=times, whole=time.perf_counter() - began)


class Workbench:
    """A stack whose policy lets one person have any number of sessions."""

    def __init__(self, stack: Stack, token: Secret) -> None:
        self.stack = stack
        self._token = token

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(
            self.stack.url, self._token, correlation_id="cor_benchmark"
        ) as client:
            yield client

    async def create(
        self, *, callers: int, count: int, ttl: str = "30m", verifier: str = VERIFIER
    ) -> Load:
        """Ask for sessions, and wait until each is ready."""
        async with self.client() as client:
            return await load(lambda: ask(client, ttl, verifier), callers=callers, count=count)


async def ask(client: AsyncClient, ttl: str = "30m", verifier: str = VERIFIER) -> str:
    """Ask for one session and wait until it is ready; return its id."""
    body = CreateSession(
        target="pg-local",
        role="app_read",
        ttl=ttl,
        reason="benchmark",
        credential=ScramCredential(kind="scram-sha-256", verifier=verifier),
    )
    key = secrets.token_urlsafe(12)
    session = await client.call(operations.create_session(body, idempotency_key=key, wait=30))
    return session.session_id


@asynccontextmanager
async def workbench() -> AsyncIterator[Workbench]:
    """Start two embedded PostgreSQL servers, a control plane and an agent."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack", port=4410, agent_port=4411, report=lambda *_: None)
        async with stack:
            policy = stack.home / "policy.yaml"
            policy.write_text(
                policy.read_text()
                .replace("sessionsPerPrincipal: 50", "sessionsPerPrincipal: 100000")
                .replace("requestsPerMinute: 600", "requestsPerMinute: 10000000")
            )
            await asyncio.sleep(1.5)  # the policy is picked up within a second
            yield Workbench(stack, await _log_in(stack.url))


async def _log_in(url: str) -> Secret:
    async with httpx.AsyncClient(base_url=f"{url}/dev-issuer", trust_env=False) as http:
        begun = (await http.post("/device_authorization", data={"client_id": "gk"})).json()
        await http.post("/device", data={"user_code": begun["user_code"], "user": "dana"})
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": begun["device_code"],
        }
        return Secret((await http.post("/token", data=form)).json()["id_token"])
