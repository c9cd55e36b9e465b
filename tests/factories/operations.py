"""A worker and an operations listener in this process, for tests."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from factories.decisions import BEARER, NOW, compiled, endpoint
from fakes.backends import FakeBackends, answered
from gatekeeper.forwardauth.adapters.observing import Observer
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.service import Decider, Outside
from gatekeeper.forwardauth.web.answering import Worker
from gatekeeper.forwardauth.web.gathering import Gathering
from gatekeeper.forwardauth.web.operations import serve_operations
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gatekeeper.platform.processes.asking import Ask

TOKEN = "operations-token-canary"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
PATIENCE_SECONDS = 60
CONFIGURATION = {
    "endpoints": {
        "app": endpoint(
            "known",
            authentication=BEARER,
            forwardProxyPolicy={"trustedProxyIPs": ["192.0.2.1"]},
        ),
        "facts": endpoint("asks"),
    },
    "rules": {
        "known": {"auth": [{"match": [{"type": "bearer", "value": "good-token"}]}]},
        "asks": {"backendApi": {"url": "https://facts.example/x"}},
    },
}


class One:
    """One worker as a process has it, with a clock that stands."""

    def __init__(self, configuration: dict[str, Any] = CONFIGURATION) -> None:
        self.observer = Observer(clock=lambda: NOW, lines=None)
        self.backends = FakeBackends(answers={"https://facts.example/x": answered({"ok": True})})
        self.decider = Decider(
            compiled(configuration).generation,
            Outside(
                backends=self.backends, tokens=None, sessions=None, shared=None,
                seal=b"", clock=lambda: NOW, new_id=lambda: "made",
            ),
            observer=self.observer, memory=Memory(10), correlation_header="x-request-id",
        )  # fmt: skip
        self.observer.watch(self.decider)
        self.worker: Ask = Worker(self.decider, self.observer, lambda: NOW)

    def decide(self, correlation_id: str) -> int:
        fields = {"authorization": "Bearer good-token", "x-request-id": correlation_id}
        raw = RawRequest(
            "GET", b"/nginx/app", [(k.encode(), v.encode()) for k, v in fields.items()], "10.0.0.1"
        )
        reply = self.decider.decide(raw)
        assert isinstance(reply, Reply)
        return reply.status


@asynccontextmanager
async def listener(*workers: Ask, token: str | None = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        secret = None if token is None else Secret(token)
        serving = asyncio.create_task(serve_operations(bound, Gathering(workers), secret))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_SECONDS
        ) as client:
            try:
                yield client
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
