"""A runner on a unix socket, a control plane that hears its reports, and clients of gateways."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, unix_connect

from fakes.plain_sandbox import PlainSandbox
from gatekeeper.bootstrap.terminals import runner as wiring
from gatekeeper.bootstrap.terminals.attach_key import attach_key
from gatekeeper.kernel import ids
from gatekeeper.kernel.terminal import term
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import Opened, ReplayGuard, open_envelope, seal
from gatekeeper.platform.crypto.signing import SigningKey, public_jwk
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.model import Mode
from gatekeeper.terminals.protocol import attachment
from gatekeeper.terminals.settings import RunnerSettings
from gatekeeper.wire.runner import (
    ORDER,
    RESULT,
    LaunchOrder,
    Limits,
    Order,
    ReportAnswer,
    Result,
    RunnerReport,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLANE = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
MEBIBYTE = 1_048_576
SECONDS = 20.0
"""More than anything here takes."""
random, clock = SystemRandom(), SystemClock()


def fresh(kind: str) -> str:
    drawn = random.bytes(ids.RANDOM_BYTES)
    return ids.terminal_id(drawn) if kind == "terminal" else ids.instance_id(drawn)


def names(order: LaunchOrder) -> dict[str, Any]:
    """Return what every order about a terminal says."""
    return {
        "id": "order",
        "correlation_id": "cor",
        "terminal": order.terminal,
        "instance": order.instance,
    }


class Plane:
    """Hears reports; `away` lets it not answer."""

    def __init__(self, runner_key: Ed25519PrivateKey) -> None:
        self.key = runner_key
        self.reports: list[RunnerReport] = []
        self.events: dict[str, list[Any]] = {}
        self.ends: set[str] = set()
        self.away = False
        self.news = asyncio.Event()

    def handle(self, request: httpx.Request) -> httpx.Response:
        opened = open_envelope(
            request.content.decode(),
            trusted={"local": (self.key.public_key(),)},
            audience="plane",
            purpose="report",
            now=clock.now(),
            seen=ReplayGuard(),
        )
        assert isinstance(opened, Opened), opened
        report = RunnerReport.model_validate_json(opened.payload)
        if self.away:
            return httpx.Response(503)
        self.reports.append(report)
        taken = {one.instance: self._take(one) for one in report.terminals}
        self.news.set()
        return httpx.Response(200, text=self._answer(opened, taken))

    def of(self, instance: str, kind: str) -> list[Any]:
        return [event for event in self.events.get(instance, []) if event.type == kind]

    async def until(self, instance: str, kind: str, count: int = 1) -> Any:
        async with asyncio.timeout(SECONDS):
            while len(found := self.of(instance, kind)) < count:
                self.news.clear()
                await self.news.wait()
        return found[-1]

    def _take(self, report: Any) -> int:
        known = self.events.setdefault(report.instance, [])
        assert report.first <= len(known) + 1, "an event was left out"
        known += report.events[len(known) - report.first + 1 :]
        return len(known)

    def _answer(self, opened: Opened, taken: dict[str, int]) -> str:
        return seal(
            ReportAnswer(taken=taken, end=tuple(self.ends)).model_dump_json(by_alias=True).encode(),
            key=PLANE,
            sender="plane",
            audience="local",
            purpose="result",
            message_id=random.bytes(16).hex(),
            now=clock.now(),
            in_reply_to=opened.message_id,
        )


class Client:
    """A client of `gk.term.v1` that acknowledges what it gets, unless told not to."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.said: list[term.FromRunner] = []
        self.output = bytearray()
        self.start = 0
        self.screens: list[term.Screen] = []
        self.acks = True

    @property
    def offset(self) -> int:
        return self.start + len(self.output)

    async def say(self, message: term.FromClient) -> None:
        await self.socket.send(term.encode_client(message))

    async def write(self, text: str) -> None:
        await self.say(term.Input(text.encode()))

    async def hear(self) -> term.FromRunner:
        async with asyncio.timeout(SECONDS):
            message = term.read_runner(await self.socket.recv())
        assert message is not None
        match message:
            case term.Output(offset, data):
                assert offset == self.offset, "a gap, or a repetition"
                self.output += data
                if self.acks:
                    await self.say(term.Ack(self.offset))
            case term.Screen(offset, _):
                self.screens.append(message)
                self.start, self.output = offset, bytearray()
                if self.acks:
                    await self.say(term.Ack(offset))
            case _:
                self.said.append(message)
        return message

    async def until(self, text: str) -> str:
        """Hear until the output has a text; return all of it."""
        while text.encode() not in self.output:
            await self.hear()
        return self.output.decode(errors="replace")

    async def until_said(self, kind: type) -> Any:
        while not (found := [said for said in self.said if isinstance(said, kind)]):
            await self.hear()
        return found[-1]

    async def until_closed(self) -> tuple[int, str]:
        """Hear all there is; return the code and the reason of the close."""
        with contextlib.suppress(Exception):
            while True:
                await self.hear()
        await self.socket.wait_closed()
        return self.socket.close_code or 0, self.socket.close_reason or ""


class Rig:
    """A runner, started; use it in an `async with`."""

    def __init__(self, **settings: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gk-"))
        key = SigningKey.load_or_create(self.folder / "runner.jwk")
        self.runner_key = key.private
        self.settings = RunnerSettings(
            key_file=self.folder / "runner.jwk",
            control_planes={"plane": public_jwk(PLANE.public_key())},
            control_plane_url="http://plane.test",
            attach_key_file=self.folder / "attach.key",
            folder=self.folder / "run",
            recordings=self.folder / "recordings",
            **settings,
        )
        self.sandbox = PlainSandbox()
        self.plane = Plane(key.private)
        self.reports: httpx.AsyncBaseTransport | None = httpx.MockTransport(self.plane.handle)
        self.server: wiring.RunnerServer

    @property
    def path(self) -> str:
        return str(self.settings.folder / wiring.SOCKET)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        shutil.rmtree(self.folder)

    async def start(self) -> None:
        self._task = asyncio.create_task(
            wiring.serve_runner(
                self.settings,
                self.sandbox,
                reports=self.reports,
                ready=self._ready,
            )
        )
        async with asyncio.timeout(SECONDS):
            while not (hasattr(self, "server") and self.server.started):
                await asyncio.sleep(0.005)
                assert not self._task.done(), self._task.exception()

    async def stop(self) -> None:
        self.server.should_exit = True
        await self._task

    def _ready(self, server: wiring.RunnerServer) -> None:
        self.server = server

    def launch_order(self, *command: str, **changes: Any) -> LaunchOrder:
        limits = {
            "memory_bytes": 512 * MEBIBYTE,
            "processes": 64,
            "cpu_percent": 100,
            "disk_bytes": 64 * MEBIBYTE,
            "output_bytes": 512 * MEBIBYTE,
            "idle_seconds": 600,
            **changes.pop("limits", {}),
        }
        values: dict[str, Any] = {
            "id": "launch",
            "correlation_id": "cor",
            "terminal": fresh("terminal"),
            "instance": fresh("instance"),
            "command": command or ("/bin/sh",),
            "shell": False,
            "prompt": None,
            "bundle": None,
            "database": False,
            "columns": 80,
            "rows": 24,
            "seconds_left": 600.0,
            "network": False,
            "record_input": False,
            "limits": Limits(**limits),
            **changes,
        }
        return LaunchOrder(**values)

    def sealed(self, order: Order, **changes: Any) -> str:
        values: dict[str, Any] = {
            "key": PLANE,
            "sender": "plane",
            "audience": "local",
            "purpose": "job",
            "message_id": random.bytes(16).hex(),
            "now": clock.now(),
            **changes,
        }
        return seal(ORDER.dump_json(order, by_alias=True), **values)

    async def post(self, envelope: str) -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=self.path)
        async with httpx.AsyncClient(transport=transport, base_url="http://runner") as client:
            return await client.post("/orders", content=envelope, timeout=60)

    async def order(self, order: Order) -> Result:
        message = random.bytes(16).hex()
        response = await self.post(self.sealed(order, message_id=message))
        assert response.status_code == 200, response.text
        opened = open_envelope(
            response.text,
            trusted={"local": (self.runner_key.public_key(),)},
            audience="plane",
            purpose="result",
            now=clock.now(),
            seen=ReplayGuard(),
            in_reply_to=message,
        )
        assert isinstance(opened, Opened), opened
        return RESULT.validate_json(opened.payload)

    async def launch(self, *command: str, **changes: Any) -> LaunchOrder:
        order = self.launch_order(*command, **changes)
        result = await self.order(order)
        assert result.type == "launched", result
        return order

    def header(self, order: LaunchOrder, **changes: Any) -> str:
        key = changes.pop("key", attach_key(self.settings.attach_key_file))
        values: dict[str, Any] = {
            "terminal": order.terminal,
            "instance": order.instance,
            "mode": Mode.WRITE,
            "subject": "dana",
            "name": "Dana",
            "nonce": random.bytes(16).hex(),
            "at": int(clock.now().timestamp()),
            **changes,
        }
        return attachment.seal(attachment.Attachment(**values), key)

    def connect(
        self,
        order: LaunchOrder,
        *,
        protocol: str = term.SUBPROTOCOL,
        header: str | None = None,
        **changes: Any,
    ) -> Any:
        return unix_connect(
            self.path,
            f"ws://runner/terminals/{order.terminal}",
            subprotocols=[protocol],
            additional_headers={attachment.HEADER: header or self.header(order, **changes)},
            compression=None,
            max_size=None,
            ping_interval=None,
        )

    @asynccontextmanager
    async def client(
        self,
        order: LaunchOrder,
        *,
        offset: int | None = None,
        size: tuple[int, int] | None = None,
        **changes: Any,
    ) -> AsyncIterator[Client]:
        async with self.connect(order, **changes) as socket:
            client = Client(socket)
            client.start = offset or 0
            await client.say(term.Attach(offset, *(size or (None, None))))
            await client.until_said(term.Hello)
            yield client

    def recording(self, order: LaunchOrder) -> list[bytes]:
        folder = self.settings.recordings / order.terminal
        return [path.read_bytes() for path in sorted(folder.glob("*.cast"))]


def events_of(recording: list[bytes], code: str = "o") -> str:
    lines = b"".join(recording).decode().splitlines()[1:]
    return "".join(event[2] for event in map(json.loads, lines) if event[1] == code)
