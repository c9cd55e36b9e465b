"""The runner's one ASGI application: orders, clients from gateways, and whether it lives.

An attachment is believed by its signature, once, for the launch that it names; nothing else of a
connection is.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from fastapi import APIRouter, Response  # read at run time

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.ids import TERMINAL_ID
from gatekeeper.kernel.terminal import term
from gatekeeper.platform.http import envelopes
from gatekeeper.platform.http.problems import STATUS, granted
from gatekeeper.platform.telemetry.metrics import CONTENT_TYPE
from gatekeeper.terminals.protocol import attachment, ttyd
from gatekeeper.terminals.runner.sockets import Socket
from gatekeeper.terminals.runner.term_client import TermClient
from gatekeeper.terminals.runner.tty_client import TtyClient
from gatekeeper.wire.runner import ORDERS_PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.platform.crypto.envelope import ReplayGuard
    from gatekeeper.terminals.protocol.attachment import Attachment
    from gatekeeper.terminals.runner.host import Host
    from gatekeeper.terminals.runner.metrics import RunnerMetrics
    from gatekeeper.terminals.runner.orders import Orders
    from gatekeeper.terminals.runner.session import Session

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    SendMessage = Callable[[Message], Awaitable[None]]
    Admitted = tuple[Session, Attachment]
    App = Callable[[Message, Receive, SendMessage], Awaitable[None]]

log = structlog.get_logger("gatekeeper.runner")

MAX_MESSAGE_BYTES: Final = 131_072
"""Of one WebSocket message of a client: more than any that is taken."""
REMEMBERED: Final = timedelta(seconds=2 * attachment.FRESH_SECONDS)
"""For how long a nonce is: one from the future by all that is allowed is good for that long."""
_PATH: Final = re.compile(rf"/terminals/({TERMINAL_ID.pattern})", re.ASCII)
_CLIENTS: Final = {term.SUBPROTOCOL: TermClient, ttyd.SUBPROTOCOL: TtyClient}


def order_routes(orders: Orders, host: Host, metrics: RunnerMetrics) -> APIRouter:
    """Make the routes of plain HTTP."""
    router = APIRouter(include_in_schema=False)

    @router.post(ORDERS_PATH)
    async def carry_out(envelope: envelopes.Text) -> Response:
        return envelopes.answered(granted(await orders.handle(envelope)))

    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz")
    async def ready() -> dict[str, str | int]:
        return {
            "status": "ok",
            "sandbox": host.sandbox,
            "terminals": host.live,
            "capacity": host.capacity,
            "viewers": sum(len(session.stream.watchers) for session in host.sessions),
        }

    @router.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router


class Admission:
    """Lets in the clients that a gateway vouches for."""

    def __init__(self, host: Host, *, key: bytes, seen: ReplayGuard, clock: Clock) -> None:
        self._host = host
        self._key = key
        self._seen = seen
        self._clock = clock

    def admit(self, path: str, headers: list[tuple[bytes, bytes]]) -> Admitted | Refusal:
        found = _PATH.fullmatch(path)
        if found is None:
            return Refusal(code=ErrorCode.NOT_FOUND, detail="there is nothing here")
        name = attachment.HEADER.lower().encode()
        given = [value for key, value in headers if key.lower() == name]
        if len(given) != 1:
            return _refused("the attachment is missing")
        said = self._read(given[0].decode("latin-1"))
        if isinstance(said, Refusal):
            return said
        if said.terminal != found[1]:
            return _refused("the attachment is for another terminal")
        session = self._host.find(said.terminal, said.instance)
        if session is None:
            return Refusal(code=ErrorCode.NOT_FOUND, detail="there is no such terminal here")
        return session, said

    def _read(self, text: str) -> Attachment | Refusal:
        now = self._clock.now()
        try:
            said = attachment.read(text, self._key, now=now.timestamp())
        except (ValueError, TypeError, KeyError):
            return _refused("the attachment has the wrong shape")
        if isinstance(said, Refusal):
            return said
        until = now + REMEMBERED
        if not self._seen.first_time(said.nonce, until, now):
            return _refused("the attachment was used before")
        return said


class RunnerApp:
    """HTTP for control planes, WebSockets for gateways."""

    def __init__(self, http: App, admission: Admission) -> None:
        self._http = http
        self._admission = admission
        self._clients: set[TermClient | TtyClient] = set()

    async def __call__(self, scope: Message, receive: Receive, send: SendMessage) -> None:
        if scope["type"] == "websocket":
            await self._attach(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _attach(self, scope: Message, receive: Receive, send: SendMessage) -> None:
        await receive()
        admitted = self._admission.admit(scope["path"], scope["headers"])
        protocol = next((name for name in scope["subprotocols"] if name in _CLIENTS), None)
        if not isinstance(admitted, Refusal) and protocol is None:
            detail = "neither gk.term.v1 nor tty was offered"
            admitted = Refusal(code=ErrorCode.VALIDATION_ERROR, detail=detail)
        if isinstance(admitted, Refusal):
            log.info("attach refused", detail=admitted.detail)
            await _refuse(send, admitted)
            return
        session, said = admitted
        await send({"type": "websocket.accept", "subprotocol": protocol})
        client = _CLIENTS[protocol or ""](Socket(receive, send), session, said)
        await client.run()


async def _refuse(send: SendMessage, refusal: Refusal) -> None:
    await send(
        {
            "type": "websocket.http.response.start",
            "status": STATUS[refusal.code],
            "headers": [(b"content-type", b"text/plain; charset=utf-8")],
        }
    )
    await send(
        {
            "type": "websocket.http.response.body",
            "body": refusal.detail.encode(),
            "more_body": False,
        }
    )


def _refused(detail: str) -> Refusal:
    return Refusal(code=ErrorCode.AUTHENTICATION_ERROR, detail=detail)
