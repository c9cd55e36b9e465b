"""A whole stack with terminals, its processes' memory and CPU, and somebody who attaches."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.databases.workbench import _log_in
from gatekeeper.client import operations
from gatekeeper.client.api import AsyncClient
from gatekeeper.entrypoints.operate.stack import Stack
from gatekeeper.kernel.terminal import term
from gatekeeper.wire.terminals import AttachRequest, CreateTerminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from gatekeeper.kernel.secret import Secret

PORTS: Final = {"port": 4420, "agent_port": 4421, "gateway_port": 4422}
CAPACITY: Final = 2_000
PARTS: Final = ("control-plane", "runner", "gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a process has used since it started, and what it holds now."""

    cpu_seconds: float
    mib: float


class Workbench:
    """A stack whose policy lets one person have any number of terminals."""

    def __init__(self, stack: Stack, token: Secret) -> None:
        self.stack = stack
        self.token = token

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(
            self.stack.url, self.token, correlation_id="cor_benchmark"
        ) as client:
            yield client

    def used(self) -> Mapping[str, Used]:
        return {child.name: _used(child.pid) for child in self.stack.children}


async def create(client: AsyncClient, *command: str, wait: int = 30, **more: Any) -> str:
    """Ask for a terminal and wait until it takes clients; return its id."""
    body = CreateTerminal.model_validate(
        {"profile": "shell", "command": command or None, "ttl": "30m", "reason": "b", **more}
    )
    key = secrets.token_urlsafe(12)
    view = await client.call(operations.create_terminal(body, idempotency_key=key, wait=wait))
    if wait and view.status != "ready":
        msg = f"{view.terminal_id} is {view.status}: {view.error}"
        raise RuntimeError(msg)
    return view.terminal_id


async def stop(client: AsyncClient, terminal: str, *, wait: int = 30) -> None:
    await client.call(operations.stop_terminal(terminal, wait=wait))


@asynccontextmanager
async def attached(client: AsyncClient, terminal: str) -> AsyncIterator[ClientConnection]:
    """Attach as a page does: a ticket, a socket, the first word."""
    ticket = await client.call(operations.attach_terminal(terminal, AttachRequest(mode="write")))
    entries = [Subprotocol(term.SUBPROTOCOL), Subprotocol(f"ticket.{ticket.ticket}")]
    async with connect(
        ticket.url, subprotocols=entries, compression=None, open_timeout=60, ping_interval=None
    ) as socket:
        await socket.send(term.encode_client(term.Attach(None, 80, 24)))
        yield socket


async def hear(socket: ClientConnection) -> bytes:
    """Take one message, acknowledge it, and return what it draws."""
    said = term.read_runner(await socket.recv())
    if not isinstance(said, term.Output | term.Screen):
        return b""
    size = len(said.data) if isinstance(said, term.Output) else 0
    await socket.send(term.encode_client(term.Ack(said.offset + size)))
    return said.data


async def until(socket: ClientConnection, text: bytes) -> float:
    """Hear until a text was drawn; return how long that took in seconds."""
    began, seen = time.perf_counter(), b""
    while text not in seen:
        seen = seen[-1_000:] + await hear(socket)
    return time.perf_counter() - began


def under(pid: int | None) -> Sequence[int]:
    """Return all processes that a process has below it."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in thread.read_text().split():
            found += [int(child), *under(int(child))]
    return found


def pss_mib(pid: int | None) -> float:
    """Return a process's proportional share of memory."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:  # it has just ended
        pass
    return 0.0


def _used(pid: int | None) -> Used:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Used(cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"), mib=pss_mib(pid))


@asynccontextmanager
async def workbench() -> AsyncIterator[Workbench]:
    """Start all of Gatekeeper, with places for many terminals."""
    with tempfile.TemporaryDirectory(prefix="gk-bench-") as folder:
        stack = Stack(Path(folder) / "s", report=lambda *_: None, **PORTS)
        async with _roomy(stack):
            if stack.without_terminals is not None:
                raise RuntimeError(stack.without_terminals)
            policy = stack.home / "policy.yaml"
            policy.write_text(
                policy.read_text()
                .replace("sessionsPerPrincipal: 50", "sessionsPerPrincipal: 100000")
                .replace("requestsPerMinute: 600", "requestsPerMinute: 10000000")
            )
            await asyncio.sleep(1.5)  # the policy is picked up within a second
            yield Workbench(stack, await _log_in(stack.url))


@asynccontextmanager
async def _roomy(stack: Stack) -> AsyncIterator[Stack]:
    """Start a stack that holds more terminals than a developer's machine is given."""
    from gatekeeper.entrypoints.operate import terminal_parts  # noqa: PLC0415  # changed here only

    before, terminal_parts.CAPACITY = terminal_parts.CAPACITY, CAPACITY  # type: ignore[misc]
    try:
        async with stack:
            yield stack
    finally:
        terminal_parts.CAPACITY = before  # type: ignore[misc]
