"""`gk up` with terminals, for tests that kill its parts: what runs, what is said of it, who sees it."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import psycopg
import pytest
from joserfc import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from acceptance.local_stack import start, stop
from gatekeeper.client import operations
from gatekeeper.client.api import AsyncClient, Operation
from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.terminal import term
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.development import AUDIENCE, PREFIX
from gatekeeper.platform.processes.listening import free_port
from gatekeeper.wire import terminals as wire

if TYPE_CHECKING:
    import subprocess

T = TypeVar("T")
Role = Literal["control-plane", "agent", "runner", "gateway"]

PATIENCE: Final = 40.0
"""Seconds that nothing needs when all is well, on a machine that has other things to do."""
OVER: Final = frozenset({"ended", "failed", "revoked", "expired", "cleaned"})


@dataclass
class TerminalStack:
    """A whole Gatekeeper. Its processes start again by themselves when they are killed."""

    folder: Path
    url: str
    agent_port: int
    gateway_port: int
    process: "subprocess.Popen[str]"

    def start_again(self) -> None:
        """Start on the same folder and ports, after all was killed."""
        port = int(self.url.rpartition(":")[2])
        close(self.process)
        self.process = start(self.folder.parent, port, self.agent_port, self.gateway_port)

    def token(self, person: str = "dana", *groups: str) -> Secret:
        key = TokenKey.load_or_create(self.folder / "keys" / "development-issuer.jwk")
        now = int(time.time())  # noqa: TID251  # a token's own times
        claims = {
            "iss": self.url + PREFIX, "aud": AUDIENCE, "sub": person, "iat": now, "exp": now + 900,
            "groups": list(groups or ("engineering",)), "email": f"{person}@example.com",
        }  # fmt: skip
        return Secret(jwt.encode({"alg": "RS256", "kid": key.key_id}, claims, key.private))

    @asynccontextmanager
    async def client(self, person: str = "dana") -> AsyncIterator["Caller"]:
        api = AsyncClient(self.url, self.token(person), correlation_id="cor_faults")
        async with api:
            yield Caller(self, api)

    def pid(self, role: Role) -> int | None:
        config = str(self.folder / f"{role}.toml").encode()
        found = [pid for pid, words in command_lines() if config in words and b"serve" in words]
        return min(found, default=None)

    def postmaster(self, name: Literal["store", "target"]) -> int:
        return int((self.folder / name / "postmaster.pid").read_text().splitlines()[0])

    def kill(self, role: Role) -> None:
        pid = self.pid(role)
        assert pid is not None, f"{role} does not run"
        os.kill(pid, signal.SIGKILL)

    async def back(self, role: Role, killed: int | None) -> None:
        """Wait until a process that was killed runs again and takes connections."""

        async def there() -> bool:
            if self.pid(role) in {None, killed}:
                return False
            try:
                if role == "runner":
                    path = str(self.folder / "runner" / "runner.sock")
                    _, writer = await asyncio.open_unix_connection(path)
                else:
                    port = self.gateway_port if role == "gateway" else int(self.url.split(":")[-1])
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
            except OSError:
                return False
            return True

        await eventually(there)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the store, as its owner would."""
        password = (self.folder / "postgres-store.password").read_text().strip()
        port = (self.folder / "store" / "postmaster.pid").read_text().splitlines()[3]
        with psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres"
        ) as connection:
            return connection.execute(query.encode()).fetchall()


@dataclass
class Caller:
    """Somebody at the API, who comes again when it is away."""

    stack: TerminalStack
    api: AsyncClient

    async def call(self, operation: Operation[T], *, patience: float = PATIENCE) -> T:
        deadline = time.monotonic() + patience
        while True:
            try:
                return await self.api.call(operation)
            except GatekeeperError as error:
                if not error.retryable or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def create(self, *command: str, wait: int = 20, **more: Any) -> wire.TerminalView:
        body = wire.CreateTerminal.model_validate(
            {"profile": "shell", "command": list(command) or None, "ttl": "5m", **more}
        )
        key = secrets.token_hex(8)
        return await self.call(operations.create_terminal(body, idempotency_key=key, wait=wait))

    async def get(self, terminal: str) -> wire.TerminalView:
        return await self.call(operations.get_terminal(terminal))

    async def reach(self, terminal: str, *statuses: str, seconds: float = PATIENCE) -> Any:
        async def there() -> wire.TerminalView | None:
            view = await self.get(terminal)
            return view if view.status in statuses else None

        try:
            return await eventually(there, seconds)
        except TimeoutError:
            raise AssertionError(await self.get(terminal)) from None

    async def stop(self, terminal: str, *, wait: int = 20) -> wire.TerminalView:
        return await self.call(operations.stop_terminal(terminal, wait=wait))

    async def ticket(self, terminal: str, mode: str = "write") -> wire.TicketView:
        body = wire.AttachRequest.model_validate({"mode": mode})
        return await self.call(operations.attach_terminal(terminal, body))

    @asynccontextmanager
    async def attached(self, terminal: str, offset: int | None = None) -> AsyncIterator["Screen"]:
        ticket = await self.ticket(terminal)
        async with offered(ticket.url, ticket.ticket) as socket:
            await socket.send(term.encode_client(term.Attach(offset, 80, 24)))
            yield Screen(socket)


@dataclass
class Screen:
    """What one client of a terminal sees."""

    socket: ClientConnection
    seen: bytes = b""
    offset: int = 0

    async def type(self, text: str) -> None:
        await self.socket.send(term.encode_client(term.Take()))
        await self.socket.send(term.encode_client(term.Input(text.encode())))

    async def until(self, text: str, seconds: float = PATIENCE) -> None:
        async with asyncio.timeout(seconds):
            while text.encode() not in self.seen:
                await self.hear()

    async def hear(self) -> None:
        said = term.read_runner(await self.socket.recv())
        if isinstance(said, term.Output | term.Screen):
            self.seen += said.data
            self.offset = said.offset + (len(said.data) if isinstance(said, term.Output) else 0)
            await self.socket.send(term.encode_client(term.Ack(self.offset)))


@asynccontextmanager
async def offered(url: str, ticket: str, **more: Any) -> AsyncIterator[ClientConnection]:
    """Connect with a ticket, whatever it is."""
    entries = [Subprotocol(term.SUBPROTOCOL), Subprotocol(f"ticket.{ticket}")]
    async with connect(
        url, subprotocols=entries, compression=None, open_timeout=20, max_size=None, **more
    ) as socket:
        yield socket


async def eventually(ask: Callable[[], Awaitable[T | None]], seconds: float = PATIENCE) -> T:
    """Ask until there is an answer. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not (found := await ask()):
            await asyncio.sleep(0.05)
    return found


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield int(process.name), (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue


def living(mark: str) -> list[int]:
    """Return the processes with a mark in their command line, but for the dead and ourselves."""
    found = [pid for pid, words in command_lines() if any(mark.encode() in w for w in words)]
    return [pid for pid in found if pid != os.getpid()]


def mark() -> str:
    """Give a number to sleep that finds the command of one terminal among all processes."""
    return f"9{secrets.randbelow(10**8):08d}"


async def nothing_left(*marks: str, seconds: float = PATIENCE) -> None:
    """Wait until no process of these is left anywhere on this machine."""

    async def gone() -> bool:
        return not any(living(one) for one in marks)

    try:
        await eventually(gone, seconds)
    except TimeoutError:
        pytest.fail(f"left: {[(one, living(one)) for one in marks]}")


@contextmanager
def stack_in(home: Path) -> Iterator[TerminalStack]:
    port, agent_port, gateway_port = free_port(), free_port(), free_port()
    url, process = f"http://127.0.0.1:{port}", start(home, port, agent_port, gateway_port)
    stack = TerminalStack(home / "stack", url, agent_port, gateway_port, process)
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stop(stack.process)
        close(stack.process)


def close(process: "subprocess.Popen[str]") -> None:
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
