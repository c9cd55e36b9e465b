"""A gateway in the test's own loop, with a real store, keys over HTTP, and runners to reach."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import uvloop
from joserfc import jwt
from joserfc.jwk import RSAKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from gatekeeper.bootstrap.terminals.gateway import gateway
from gatekeeper.kernel import ids
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.postgres.roles import GATEWAY, allow_login
from gatekeeper.platform.processes.listening import BACKLOG
from gatekeeper.terminals.gateway.server import Server
from gatekeeper.terminals.protocol import ticket as tickets
from gatekeeper.terminals.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from gatekeeper.terminals.gateway.worker import Application

ISSUER: Final = "http://127.0.0.1:4000"
KEY: Final = TokenKey(RSAKey.generate_key(2048))
EPOCH: Final = "epoch-of-the-test"
LOGIN: Final = "gateway_tester"
PASSWORD: Final = "of-this-run-alone"


def new_terminal() -> str:
    return str(ids.terminal_id(os.urandom(ids.RANDOM_BYTES)))


def new_instance() -> str:
    return str(ids.instance_id(os.urandom(ids.RANDOM_BYTES)))


def claims(terminal: str, instance: str, **changes: Any) -> dict[str, Any]:
    now = int(datetime.now(UTC).timestamp())  # noqa: TID251  # a ticket of now
    made = {
        "iss": ISSUER, "aud": tickets.AUDIENCE, "sub": "dana", "name": "Dana", "sid": terminal,
        "ins": instance, "mode": "write", "epoch": EPOCH, "jti": os.urandom(12).hex(),
        "iat": now, "exp": now + 60,
    } | changes  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


def sign(said: dict[str, Any], key: TokenKey = KEY, **header: Any) -> str:
    head = {"alg": "RS256", "typ": tickets.TYPE, "kid": key.key_id} | header
    return jwt.encode(head, said, key.private)


_TERMINAL: Final = """
INSERT INTO gatekeeper.terminal (id, status, requester, principal, runner, instance, address,
    profile, command, shell, columns, rows, reason, grant_name, ttl, max_ttl, correlation_id,
    expires_at)
VALUES (%s, %s, 'dana', '{}', 'local', %s, %s, 'shell', '[]', false, 80, 24, '', 'g', '1h', '1h',
    'c', clock_timestamp() + %s)
"""


@dataclass
class Store:
    """The store as its control plane writes it."""

    owner: str
    dsn: Secret

    def run(self, statement: str, *values: object) -> list[Any]:
        with psycopg.connect(self.owner, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def add(
        self,
        address: str | None,
        *,
        status: str = "ready",
        seconds: float = 600,
    ) -> tuple[str, str]:
        terminal, instance = new_terminal(), new_instance()
        left = timedelta(seconds=seconds)
        self.run(_TERMINAL, terminal, status, instance, address, left)
        return terminal, instance

    def move(
        self, terminal: str, status: str, *, ending: str | None = None, tell: bool = True
    ) -> None:
        self.run(
            "UPDATE gatekeeper.terminal SET status = %s, ending = %s WHERE id = %s",
            status,
            ending,
            terminal,
        )
        if tell:
            self.run("SELECT pg_notify('gatekeeper_terminal', %s)", terminal)

    def begin_epoch(self, epoch: str = EPOCH) -> None:
        self.run(
            "INSERT INTO gatekeeper.token_jti VALUES ('epoch', %s, 'infinity')"
            " ON CONFLICT (jti) DO UPDATE SET epoch = EXCLUDED.epoch",
            epoch,
        )

    def used(self) -> int:
        rows = self.run("SELECT count(*) FROM gatekeeper.token_jti WHERE jti LIKE 't:%%'")
        return int(rows[0][0])


async def prepare(owner: str) -> Store:
    dsn = Secret(psycopg.conninfo.make_conninfo(owner, user=LOGIN, password=PASSWORD))
    await allow_login(Secret(owner), dsn, member_of=GATEWAY)
    store = Store(owner, dsn)
    store.begin_epoch()
    return store


@asynccontextmanager
async def published(*keys: TokenKey) -> AsyncIterator[tuple[str, list[int]]]:
    """Publish keys over HTTP; give the address, and a list with an entry for each fetch."""
    fetched: list[int] = []
    body = json.dumps({"keys": [one for key in keys for one in key.jwks()["keys"]]}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        fetched.append(1)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks", fetched


@dataclass
class Rig:
    """All that a test has around a gateway."""

    store: Store
    application: Application
    listening: socket.socket
    port: int
    folder: Path
    stop: asyncio.Event
    fetched: list[int]
    serving: asyncio.Task[None]
    stack: AsyncExitStack

    async def runner(
        self, handler: Callable[[ServerConnection], Awaitable[None]] | None = None
    ) -> tuple[str, list[ServerConnection]]:
        """Start a runner; return its address and the connections it has had."""
        path = self.folder / f"{os.urandom(4).hex()}.sock"
        seen: list[ServerConnection] = []

        async def handle(connection: ServerConnection) -> None:
            seen.append(connection)
            await (handler or echo)(connection)

        spoken: Any = ["gk.term.v1", "tty"]
        server = unix_serve(
            handle,
            str(path),
            subprotocols=spoken,
            compression=None,
            max_size=None,
            ping_interval=None,
        )
        await self.stack.enter_async_context(server)
        return f"unix:{path}", seen

    async def raw_runner(
        self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> str:
        """Start a runner that says what the test says."""
        path = self.folder / f"{os.urandom(4).hex()}.sock"

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)
            writer.close()

        server = await asyncio.start_unix_server(answer, str(path))
        self.stack.push_async_callback(_closed, server)
        return f"unix:{path}"

    def attach(self, terminal: str, ticket: str, **options: Any) -> connect:
        """Attach as an honest client does."""
        offered: Any = ["gk.term.v1", f"ticket.{ticket}"]
        return connect(
            f"ws://127.0.0.1:{self.port}/attach/{terminal}",
            subprotocols=offered,
            **{"compression": None, "max_size": None, "ping_interval": None, "proxy": None,
               "user_agent_header": None} | options,
        )  # fmt: skip

    async def open(self, address: str, **changes: Any) -> tuple[ClientConnection, str]:
        """Attach to a new terminal at this runner."""
        terminal, instance = self.store.add(address)
        client = await self.attach(terminal, sign(claims(terminal, instance, **changes)))
        self.stack.callback(client.transport.abort)
        return client, terminal

    async def raw(
        self, terminal: str, ticket: str, *lines: str, rest: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send an upgrade by hand."""
        reader, writer = await self.dial()
        writer.write(upgrade(terminal, ticket, *lines) + rest)
        return reader, writer

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.stack.callback(writer.close)
        return reader, writer


async def echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


async def _closed(server: asyncio.Server) -> None:
    server.close()


def upgrade(terminal: str, ticket: str, *lines: str) -> bytes:
    return (
        "\r\n".join(
            [
                f"GET /attach/{terminal} HTTP/1.1",
                "Host: gateway",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                f"Sec-WebSocket-Protocol: gk.term.v1, ticket.{ticket}",
                *lines,
            ]
        )
        + "\r\n\r\n"
    ).encode()


def switched(request: bytes, *lines: str) -> bytes:
    """Answer a gateway's request as a runner does."""
    fields = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:] if line)
    text = fields["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    digest = hashlib.sha1(text, usedforsecurity=False).digest()
    return (
        "\r\n".join(
            [
                "HTTP/1.1 101 Switching Protocols",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
                f"Sec-WebSocket-Protocol: {fields['Sec-WebSocket-Protocol']}",
                *lines,
            ]
        )
        + "\r\n\r\n"
    ).encode()


@asynccontextmanager
async def rig(store: Store, folder: Path, **settings: Any) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        url, fetched = await stack.enter_async_context(published(KEY))
        wanted = GatewaySettings(
            store_dsn=store.dsn, keys_url=url, issuer=ISSUER,
            attach_key_file=folder / "attach.key", **settings,
        )  # fmt: skip
        application = await stack.enter_async_context(gateway(wanted))
        background = [asyncio.ensure_future(work()) for work in application.background.values()]
        listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        port = listening.getsockname()[1]
        stop = asyncio.Event()
        serving = asyncio.create_task(Server(application.gate).serve(listening, stop))
        try:
            async with AsyncExitStack() as inner:
                yield Rig(
                    store, application, listening, port, folder, stop, fetched, serving, inner
                )
        finally:
            stop.set()
            await serving
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            listening.close()


TEST_SECONDS: Final = 10.0


def served(
    *, within: float = TEST_SECONDS, **settings: Any
) -> Callable[[Callable[[Rig], Awaitable[None]]], Callable[..., None]]:
    """Make a test of what is to be done with a gateway; it runs on uvloop, as gateways do."""

    def decorate(test: Callable[[Rig], Awaitable[None]]) -> Callable[..., None]:
        def run(store_owner_dsn: str, tmp_path: Path) -> None:
            async def main() -> None:
                store = await prepare(store_owner_dsn)
                async with rig(store, tmp_path, **settings) as here, asyncio.timeout(within):
                    await test(here)

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())

        run.__name__ = run.__qualname__ = test.__name__
        run.__doc__, run.__module__ = test.__doc__, test.__module__
        return run

    return decorate
