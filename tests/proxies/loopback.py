"""A TCP server of a test, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

LARGEST_HEAD = 1_048_576
"""Bytes of a request line and its headers."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: nothing of it is interpreted but where it ends."""

    head: bytes
    body: bytes
    connection: int
    """Counts the connections of the server: requests on one have the same number."""

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.head.split(b"\r\n", 1)[0].split(b" ", 1)[1].rsplit(b" ", 1)[0].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names as they were spelt."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return [(name, value.strip()) for name, _, value in pairs]

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """Return the one value; more than one is a defect that a test wants to see."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times: {values}"
        return values[0] if values else None


class Loopback:
    """Serve on a free port of 127.0.0.1, until the block ends."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._count = 0

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, limit=LARGEST_HEAD
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A peer may leave at any moment, in the middle of a request too.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.serve(reader, writer, self._count)
        except asyncio.CancelledError:
            pass  # asyncio's own callback would log a task that ends cancelled
        finally:
            self._connections.discard(task)
            writer.close()


async def receive(reader: asyncio.StreamReader, connection: int) -> Received:
    """Read one request. Ends with IncompleteReadError when the peer has no more."""
    head = await reader.readuntil(b"\r\n\r\n")
    request = Received(head[:-2], b"", connection)
    if (length := request.value("content-length")) is not None:
        return Received(request.head, await reader.readexactly(int(length)), connection)
    if (request.value("transfer-encoding") or "").lower() == "chunked":
        return Received(request.head, await _chunks(reader), connection)
    return request


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailers
    return bytes(body)
