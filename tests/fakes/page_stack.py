"""A control plane with its pages, and terminals that a test plays the other side of.

The sign-in, the pages and the API's callers are the real ones. `/terminals` and the socket are
a stand-in that speaks the real `gk.term.v1`: each test says what its terminal does.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from factories.installation import address, control_plane_settings, policy, serving
from gatekeeper.bootstrap import ControlPlaneSettings, control_plane_app
from gatekeeper.kernel.terminal import term
from gatekeeper.platform.console.cookies import HEADER, SESSION
from gatekeeper.terminals.model import Mode

if TYPE_CHECKING:
    from pathlib import Path

TERMINAL = "trm_" + "a" * 20


class CableCutError(Exception):
    """The connection is to break without a word."""


class Attached:
    """One client at the terminal, as its runner sees it."""

    def __init__(self, websocket: WebSocket, number: int) -> None:
        self._websocket = websocket
        self.number = number
        """How many attached before."""
        self.offset = 0
        self.typed = bytearray()
        self.acks: list[int] = []
        self.sizes: list[tuple[int, int]] = []

    async def hear(self) -> term.FromClient:
        """Return the next thing the client says; pings are answered on the way."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            said = term.read_client(
                message["text"] if message.get("text") is not None else message["bytes"]
            )
            match said:
                case term.Ping(t):
                    await self.say(term.Pong(t=t))
                    continue
                case term.Input(data):
                    self.typed += data
                case term.Ack(offset):
                    self.acks.append(offset)
                case term.Resize(columns, rows):
                    self.sizes.append((columns, rows))
            return said

    async def say(self, message: term.FromRunner) -> None:
        encoded = term.encode(message)
        if isinstance(encoded, str):
            await self._websocket.send_text(encoded)
        else:
            await self._websocket.send_bytes(encoded)

    async def greet(self, **changes: Any) -> term.Attach:
        """Hear `attach`, and answer as the runner of a terminal that the client types in."""
        attach = await self.hear()
        assert isinstance(attach, term.Attach)
        values: dict[str, Any] = {
            "terminal": TERMINAL, "instance": "i" * 20, "mode": Mode.WRITE,
            "offset": self.offset if attach.offset is None else attach.offset,
            "columns": 80, "rows": 24, "holder": "dana", "mine": True,
            "expires_in": 600.0, "recorded": True,
        } | changes  # fmt: skip
        self.offset = values["offset"]
        await self.say(term.Hello(**values))
        return attach

    async def write(self, data: bytes) -> None:
        await self.say(term.Output(self.offset, data))
        self.offset += len(data)

    async def close(self, code: int, reason: str = "") -> None:
        await self._websocket.close(code, reason)

    async def drop(self) -> None:
        """Break the connection as a cable would: no close frame."""
        raise CableCutError

    async def idle(self) -> None:
        """Hear the client until it goes."""
        while True:
            await self.hear()


Play = Callable[[Attached], Awaitable[None]]


async def echo(client: Attached) -> None:
    """Give back what is typed."""
    await client.greet()
    await client.write(b"$ ")
    while True:
        match await client.hear():
            case term.Input(data):
                await client.write(data.replace(b"\r", b"\r\n"))
            case term.Resize(columns, rows):
                await client.say(term.SizeChanged(columns=columns, rows=rows))


@dataclass
class Terminals:
    """What the stand-in says, and how its terminal behaves."""

    play: Play = echo
    view: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    tickets: list[str] = field(default_factory=list)
    """Fresh ones; each opens one socket."""
    attaches: int = 0
    refuse_attach: tuple[int, dict[str, Any]] | None = None
    recording: str = ""
    refuse_recording: tuple[int, dict[str, Any]] | None = None
    clients: list[Attached] = field(default_factory=list)

    def forget(self) -> None:
        """Be as at first, for the next test."""
        fresh = Terminals()
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(fresh, name))

    def shown(self) -> dict[str, Any]:
        now = datetime.now(UTC)  # noqa: TID251  # the page compares it with its own clock
        return {
            "terminalId": TERMINAL, "status": "ready", "profile": "shell",
            "command": ["/bin/bash", "-l"], "requester": "dana", "reason": "",
            "createdAt": (now - timedelta(seconds=2)).isoformat(), "ttlSeconds": 600,
            "stages": [
                {"stage": "queued", "at": (now - timedelta(seconds=2)).isoformat()},
                {"stage": "first_byte", "at": (now - timedelta(seconds=1)).isoformat()},
            ],
            "expiresAt": (now + timedelta(seconds=600)).isoformat(),
        } | self.view  # fmt: skip


def terminal_routes(  # noqa: C901  # one small route after the other
    terminals: Terminals, gateway: str
) -> APIRouter:
    router = APIRouter(include_in_schema=False, dependencies=[Depends(_of_a_page)])

    @router.get("/profiles")
    async def profiles() -> Any:
        shell = {
            "profile": "shell", "command": ["/bin/bash", "-l"], "anyCommand": True,
            "bundles": False, "network": False, "allowed": True, "maxTtl": "1h", "reasons": [],
        }  # fmt: skip
        root = shell | {"profile": "root", "allowed": False, "reasons": ["no grant names root"]}
        return {"items": [shell, root], "sandbox": "bubblewrap"}

    @router.get("/terminals")
    async def listed() -> Any:
        return {"items": [terminals.shown()], "next": None}

    @router.get("/terminals/events")
    async def events() -> StreamingResponse:
        async def said() -> AsyncIterator[str]:
            yield ": here\n\n"

        return StreamingResponse(said(), media_type="text/event-stream")

    @router.post("/terminals")
    async def create(request: Request) -> Any:
        terminals.asked.append(await request.json())
        return JSONResponse(terminals.shown(), status_code=201)

    @router.get(f"/terminals/{TERMINAL}")
    async def show() -> Any:
        return terminals.shown()

    @router.delete("/terminals/{terminal}")
    async def stop(terminal: str) -> Any:
        terminals.asked.append({"stopped": terminal})
        return terminals.shown()

    @router.post("/terminals/{terminal}/attach")
    async def attach(terminal: str, request: Request) -> Any:
        if terminals.refuse_attach is not None:
            status, problem = terminals.refuse_attach
            return JSONResponse(problem, status_code=status)
        ticket = f"h.p{len(terminals.tickets)}.s"
        terminals.tickets.append(ticket)
        return {
            "url": f"{gateway}/attach/{terminal}", "ticket": ticket,
            "mode": (await request.json())["mode"], "expiresAt": terminals.shown()["expiresAt"],
        }  # fmt: skip

    @router.post(f"/terminals/{TERMINAL}/share")
    async def share(request: Request) -> Any:
        terminals.asked.append(await request.json())
        return {
            "shareId": "shr_1", "url": "http://x/console/shared#" + "s" * 43,
            "expiresAt": terminals.shown()["expiresAt"],
        }  # fmt: skip

    @router.post("/shares/open")
    async def open_share(request: Request) -> Any:
        terminals.asked.append(await request.json())
        ticket = f"h.p{len(terminals.tickets)}.s"
        terminals.tickets.append(ticket)
        expires = terminals.shown()["expiresAt"]
        url = f"{gateway}/attach/{TERMINAL}"
        return {
            "terminalId": TERMINAL, "expiresAt": expires,
            "ticket": {"url": url, "ticket": ticket, "mode": "read", "expiresAt": expires},
        }  # fmt: skip

    @router.get(f"/terminals/{TERMINAL}/recording")
    async def recording() -> Any:
        if terminals.refuse_recording is not None:
            status, problem = terminals.refuse_recording
            return JSONResponse(problem, status_code=status)
        return PlainTextResponse(terminals.recording, media_type="application/x-asciicast")

    return router


def socket_routes(terminals: Terminals) -> APIRouter:
    router = APIRouter()

    @router.websocket(f"/attach/{TERMINAL}")
    async def attached(websocket: WebSocket) -> None:
        offered = websocket.scope["subprotocols"]
        assert offered[0] == term.SUBPROTOCOL
        ticket = offered[1].removeprefix("ticket.")
        assert ticket in terminals.tickets, "a ticket opens one socket"
        terminals.tickets[terminals.tickets.index(ticket)] = "used"
        await websocket.accept(term.SUBPROTOCOL)
        client = Attached(websocket, terminals.attaches)
        terminals.attaches += 1
        terminals.clients.append(client)
        try:
            await terminals.play(client)
        except (WebSocketDisconnect, CableCutError, asyncio.CancelledError):
            return

    return router


@dataclass(frozen=True)
class PageStack:
    url: str
    terminals: Terminals
    settings: ControlPlaneSettings


@contextmanager
def page_stack(folder: Path, store: str, **more: Any) -> Iterator[PageStack]:
    """Serve a control plane at its own public address, with stand-in terminals behind it."""
    (folder / "policy.yaml").write_text(policy())
    (folder / "keys").mkdir(mode=0o700)
    listener = socket.create_server(("127.0.0.1", 0))
    url = address(listener)
    settings = ControlPlaneSettings.model_validate(
        control_plane_settings(folder, store) | {"public_url": url} | more
    )
    app: FastAPI = control_plane_app(settings, stop=lambda: None)
    terminals = Terminals()
    gateway = url.replace("http", "ws", 1)
    app.include_router(terminal_routes(terminals, gateway))
    app.include_router(socket_routes(terminals))
    with serving(app, listener) as served:
        assert served == url
        yield PageStack(url=url, terminals=terminals, settings=settings)


def _of_a_page(request: Request) -> None:
    """Refuse what the API would: a call with a cookie, but not made by a page of ours."""
    if HEADER not in request.headers or SESSION not in request.cookies:
        raise HTTPException(401)


def lines(*events: list[Any], columns: int = 80, rows: int = 24) -> str:
    """Write an asciicast v3."""
    header = {"version": 3, "term": {"cols": columns, "rows": rows}}
    return "".join(json.dumps(line) + "\n" for line in (header, *events))
