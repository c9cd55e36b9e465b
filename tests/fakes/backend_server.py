"""A backend on a real socket that says what a test scripted, byte by byte if need be."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping


@dataclass(frozen=True)
class Received:
    """A request as it arrived; header names in lower case, repeated ones joined by ", "."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Then(Enum):
    """What the server does with the connection after it has said its bytes."""

    KEEP = "keep"
    CLOSE = "close"
    HANG = "hang"


@dataclass(frozen=True)
class Scripted:
    data: bytes
    then: Then = Then.KEEP


HANG = Scripted(b"", Then.HANG)
"""Takes the request and never says anything."""
CUT = Scripted(b"", Then.CLOSE)
"""Takes the request and closes the connection."""


def reply(status: int = 200, body: Any = b"", **headers: str) -> Scripted:
    """Make a whole answer; a body that is not bytes is sent as JSON. `x_y="z"` is `x-y: z`."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("content_type", "application/json")
    headers.setdefault("content_length", str(len(body)))
    lines = [f"HTTP/1.1 {status} Scripted"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Scripted("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body)


@dataclass
class BackendServer:
    """Answers each path with the next of its script; the last one again and again.

    `received` has every request, `connections` how many connections there were.
    """

    received: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _script: dict[str, list[Scripted]] = field(default_factory=dict)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def serving(cls, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        backend = cls()
        server = await asyncio.start_server(backend._connected, "127.0.0.1", 0, ssl=tls)
        backend.port = server.sockets[0].getsockname()[1]
        try:
            yield backend
        finally:
            server.close()
            for task in backend._serving:
                task.cancel()
            await asyncio.gather(*backend._serving, return_exceptions=True)

    def answers(self, target: str, *script: Scripted) -> None:
        """Script a path (with its query): one answer after the other."""
        self._script[target] = list(script)

    def url(self, target: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{target}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read(reader)
        self.received.append(request)
        script = self._script.get(request.target, [reply(404)])
        scripted = script.pop(0) if len(script) > 1 else script[0]
        writer.write(scripted.data)
        await writer.drain()
        if scripted.then is Then.HANG:
            await reader.read()
        return scripted.then is Then.KEEP


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key, text = name.lower(), value.strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)
