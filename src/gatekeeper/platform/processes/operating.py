"""The listener of watchers: `/healthz`, `/readyz` and `/metrics`, where no client comes.

ASGI by hand: a few paths are not worth a framework in each process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.server import ServerState

if TYPE_CHECKING:
    import socket

    from gatekeeper.platform.processes.gathering import Gathering

MAX_CONNECTIONS: Final = 64
IDLE_SECONDS: Final = 15

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON: Final = b"application/json"
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"


def watched(workers: Gathering) -> Application:
    """Make the application that tells of health, and of what was counted."""

    async def application(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, kind, body = await _answer(workers, scope["method"], scope["path"])
        headers = [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


async def _answer(workers: Gathering, method: str, path: str) -> tuple[int, bytes, bytes]:
    if method not in ("GET", "HEAD"):
        return 405, _JSON, _json({"error": "method not allowed"})
    match path:
        case "/healthz":
            return 200, _JSON, _json({"status": "ok"})
        case "/readyz":
            reasons = await workers.unready()
            if reasons:
                return 503, _JSON, _json({"status": "unready", "reasons": reasons})
            return 200, _JSON, _json({"status": "ready"})
        case "/metrics":
            return 200, _METRICS, await workers.metrics()
        case _:
            return 404, _JSON, _json({"error": "not found"})


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


async def serve_watchers(listening: socket.socket, application: Application) -> None:
    """Serve until cancelled. uvicorn's h11 protocol bounds heads; it is not asked often."""
    config = uvicorn.Config(
        application,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    protocol: Callable[[], asyncio.Protocol] = partial(
        cast("Any", config.http_protocol_class), config=config, server_state=state, app_state={}
    )
    server = await loop.create_server(protocol, sock=listening)
    try:
        await loop.create_future()
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
