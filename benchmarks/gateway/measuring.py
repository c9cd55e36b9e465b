"""The measurements. Memory and CPU time are read in /proc, of the proxy's process alone."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.terminals.protocol.frames import PING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.gateway.servers import Proxy

CONNECTING: Final = 32
"""Clients that connect at a time."""
SETTLE_SECONDS: Final = 2.0
FLOOD_BYTES: Final = 65_539
TICKS: Final = os.sysconf("SC_CLK_TCK")
_ECHOED: Final = b"\x82\xa0" + bytes(4) + b"." * 32
_ECHO_BYTES: Final = 34
_PONG: Final = bytes((0x8A, 0x80, 0, 0, 0, 0))


class Client(asyncio.Protocol):
    """A client that counts what it gets."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self._joined = False
        self._wanted = 0
        self.got = 0
        self.waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._joined:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.waiting.set_exception(RuntimeError(self._head.decode()))
                return
            self._joined, self._head, self._request = True, b"", b""
            self.waiting.set_result(None)
            data = rest
        elif data == PING:  # whoever answers none is taken for gone
            self.transport.write(_PONG)
            return
        self.got += len(data)
        if self._wanted and self.got >= self._wanted and not self.waiting.done():
            self.waiting.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.waiting.done():
            self.waiting.set_exception(exc or ConnectionResetError())

    def receive(self, size: int) -> asyncio.Future[None]:
        """Wait for so many bytes more. Called before they are asked for."""
        self._wanted = self.got + size
        self.waiting = asyncio.get_running_loop().create_future()
        return self.waiting

    async def echo(self) -> None:
        waiting = self.receive(_ECHO_BYTES)
        self.transport.write(_ECHOED)
        await waiting

    def ask_for(self, frames: int) -> None:
        text = b"f%d" % frames
        self.transport.write(bytes((0x82, 0x80 | len(text))) + bytes(4) + text)


async def attach(port: int, request: bytes, *, source: str = "127.0.0.1") -> Client:
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(request), "127.0.0.1", port, local_addr=(source, 0)
    )
    await client.waiting
    return client


async def attach_many(
    port: int, requests: Sequence[bytes], *, source: str = "127.0.0.1"
) -> list[Client]:
    """Attach all, `CONNECTING` at a time."""
    waiting = list(requests)
    clients: list[Client] = []

    async def attach_some() -> None:
        while waiting:
            clients.append(await attach(port, waiting.pop(), source=source))

    await asyncio.gather(*(attach_some() for _ in range(CONNECTING)))
    return clients


async def echo_all(clients: Sequence[Client]) -> None:
    for start in range(0, len(clients), CONNECTING):
        await asyncio.gather(*(one.echo() for one in clients[start : start + CONNECTING]))


def private_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(map(int, re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.MULTILINE)))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Idle(NamedTuple):
    clients: int
    kib: float
    """Each."""


async def idle(proxy: Proxy, counts: Sequence[int]) -> list[Idle]:
    """Add clients up to each count; each has echoed a frame before it idles."""
    warm = await attach_many(proxy.port, [proxy.request() for _ in range(CONNECTING)])
    for one in warm:
        one.transport.close()
    await asyncio.sleep(SETTLE_SECONDS)
    before = private_kib(proxy.pid)
    clients: list[Client] = []
    found = []
    for count in counts:
        more = await attach_many(proxy.port, [proxy.request() for _ in range(count - len(clients))])
        await echo_all(more)
        clients += more
        await asyncio.sleep(SETTLE_SECONDS)
        found.append(Idle(count, (private_kib(proxy.pid) - before) / count))
    for one in clients:
        one.transport.close()
    return found


class SetUp(NamedTuple):
    per_second: float
    cpu_us: float
    p50_ms: float


async def set_up(proxy: Proxy, count: int) -> SetUp:
    requests = [proxy.request() for _ in range(count)]
    for one in await attach_many(proxy.port, [proxy.request() for _ in range(50)]):
        one.transport.close()
    took: list[float] = []

    async def attach_some() -> None:
        while requests:
            began = time.perf_counter()
            client = await attach(proxy.port, requests.pop())
            took.append(time.perf_counter() - began)
            client.transport.close()

    cpu, began = cpu_seconds(proxy.pid), time.perf_counter()
    await asyncio.gather(*(attach_some() for _ in range(CONNECTING)))
    seconds = time.perf_counter() - began
    cost = (cpu_seconds(proxy.pid) - cpu) / count
    return SetUp(count / seconds, cost * 1e6, statistics.median(took) * 1e3)


class Latency(NamedTuple):
    p50_us: float
    p99_us: float


async def latency(proxy: Proxy, rounds: int) -> Latency:
    client = await attach(proxy.port, proxy.request())
    for _ in range(200):
        await client.echo()
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        await client.echo()
        took.append(time.perf_counter() - began)
    client.transport.close()
    took.sort()
    return Latency(took[rounds // 2] * 1e6, took[rounds * 99 // 100] * 1e6)


class Flow(NamedTuple):
    mb_per_second: float
    cpu_per_gib: float


async def flow(proxy: Proxy, flows: int, mebibytes: int) -> Flow:
    clients = await attach_many(proxy.port, [proxy.request() for _ in range(flows)])
    frames = max(1, mebibytes * 16 // flows)
    cpu, began = cpu_seconds(proxy.pid), time.perf_counter()
    waiting = [one.receive(frames * FLOOD_BYTES) for one in clients]
    for one in clients:
        one.ask_for(frames)
    await asyncio.gather(*waiting)
    seconds = time.perf_counter() - began
    moved = frames * FLOOD_BYTES * flows
    cost = (cpu_seconds(proxy.pid) - cpu) / (moved / 2**30)
    for one in clients:
        one.transport.close()
    return Flow(moved / seconds / 1e6, cost)


async def stalled(proxy: Proxy, readers: int) -> float:
    """Return the KiB that each client costs which asks for much and reads nothing."""
    clients = await attach_many(proxy.port, [proxy.request() for _ in range(readers)])
    before = private_kib(proxy.pid)
    for one in clients:
        one.transport.pause_reading()
        one.ask_for(2_000)
    await asyncio.sleep(SETTLE_SECONDS)
    held = (private_kib(proxy.pid) - before) / readers
    for one in clients:
        one.transport.abort()
    return held
