"""From a socket inside a sandbox to one login of one database, and to nothing else.

The sandbox has no network: this relay connects for it, by TLS where the target wants it, and
then passes bytes on both ways, each side no faster than the other reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.terminals.protocol import postgresql
from gatekeeper.terminals.protocol.postgresql import Cancel, EncryptionAsked, Start, StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gatekeeper.terminals.ports import BoundLogin

MAX_CONNECTIONS: Final = 32
"""Of one terminal at a time; each takes two file descriptors of the runner."""
START_SECONDS: Final = 10.0
"""For a client to say what it wants, and for the database to answer."""
FLUSH_SECONDS: Final = 5.0
"""For the last bytes to be read by a side that is told goodbye."""
CHUNK_BYTES: Final = 65_536
_MAX_QUESTIONS: Final = 2
"""A client asks for TLS, for GSS, or for both, and then begins."""

Streams = tuple[StreamReader, StreamWriter]


def tls_context(login: BoundLogin, roots: Path | None) -> ssl.SSLContext | None:
    """Return how the relay is to speak TLS, by libpq's meaning of `sslmode`; None: not at all.

    `roots` is a file of CA certificates, or None for the machine's own.
    """
    if login.sslmode == "disable" or login.host.startswith("/"):
        return None
    if login.sslmode == "require":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context = ssl.create_default_context(cafile=None if roots is None else str(roots))
    context.check_hostname = login.sslmode != "verify-ca"
    return context


class Relay:
    """Serves a listening socket until `close`."""

    def __init__(self, login: BoundLogin, tls: ssl.SSLContext | None) -> None:
        self._login = login
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=CHUNK_BYTES
        )

    async def close(self) -> None:
        """End every connection at once, and take no more."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._serve((reader, writer)), name="database relay")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, client: Streams) -> None:
        async with _closing(client):
            try:
                self._make_room(client[1])
                await self._relay(client)
            except StartError as error:
                client[1].write(postgresql.error_message(error))
            except (OSError, EOFError):
                pass  # it went away, or never said anything: there is nobody to tell

    def _make_room(self, writer: StreamWriter) -> None:
        """Refuse a connection too many, in words as long as few are refused at a time."""
        if len(self._connections) > 2 * MAX_CONNECTIONS:
            writer.transport.abort()
        if len(self._connections) > MAX_CONNECTIONS:
            msg = f"a terminal has at most {MAX_CONNECTIONS} connections to its database at a time"
            raise StartError(msg, "53300")

    async def _relay(self, client: Streams) -> None:
        async with asyncio.timeout(START_SECONDS):
            asked = await _first_packet(client)
        if isinstance(asked, Start):
            login = self._login
            postgresql.check_login(asked, username=login.username, database=login.database)
        async with _closing(await self._connect()) as database:
            database[1].write(asked.packet)
            if isinstance(asked, Start):
                await _greet(database, client)
                await _splice(client, database)
            else:
                await _see_off(database)

    async def _connect(self) -> Streams:
        try:
            async with asyncio.timeout(START_SECONDS):
                return await self._dial()
        except TimeoutError as error:
            reason = f"no answer within {START_SECONDS:.0f} s"
            raise _unreachable(reason) from error
        except ssl.SSLCertVerificationError as error:
            reason = f"its certificate is refused ({error.verify_message})"
            raise _unreachable(reason) from error
        except OSError as error:
            raise _unreachable(error.strerror or type(error).__name__) from error

    async def _dial(self) -> Streams:
        sock = await _connected(self._login.host, self._login.port)
        try:
            if self._tls is None:
                return await asyncio.open_connection(sock=sock, limit=CHUNK_BYTES)
            await _ask_for_tls(sock)
            return await asyncio.open_connection(
                sock=sock, ssl=self._tls, server_hostname=self._login.host, limit=CHUNK_BYTES
            )
        except BaseException:
            sock.close()
            raise


async def _first_packet(client: Streams) -> Start | Cancel:
    """Read what a client wants; no, it need not be encrypted on this machine."""
    reader, writer = client
    for _ in range(_MAX_QUESTIONS + 1):
        head = await reader.readexactly(postgresql.HEAD.size)
        rest = await reader.readexactly(postgresql.packet_length(head) - len(head))
        packet = postgresql.read_packet(head + rest)
        if not isinstance(packet, EncryptionAsked):
            return packet
        writer.write(postgresql.NOT_ENCRYPTED)
    msg = "the client asks for encryption again and again"
    raise StartError(msg, "08P01")


async def _greet(database: Streams, client: Streams) -> None:
    """Pass on what a server says first, until the two can go on without us."""
    last = False
    try:
        while not last:
            async with asyncio.timeout(START_SECONDS):
                head = await database[0].readexactly(postgresql.MESSAGE_HEAD.size)
                body = await database[0].readexactly(postgresql.greeting_length(head))
            message, last = postgresql.read_greeting(head[:1], body)
            client[1].write(message)
    except TimeoutError as error:
        reason = f"it said nothing for {START_SECONDS:.0f} s"
        raise _unreachable(reason) from error
    except (OSError, EOFError) as error:
        reason = "it closed the connection"
        raise _unreachable(reason) from error


async def _splice(client: Streams, database: Streams) -> None:
    """Pass bytes on until one side has no more to say."""
    pumps = (
        asyncio.create_task(_pump(client[0], database[1]), name="database relay: to"),
        asyncio.create_task(_pump(database[0], client[1]), name="database relay: from"),
    )
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


async def _see_off(database: Streams) -> None:
    """Wait until the server has taken a cancel request: it closes then."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(START_SECONDS):
            await database[0].read(1)


@asynccontextmanager
async def _closing(streams: Streams) -> AsyncIterator[Streams]:
    """Close a side when it has read what was written; at once when we are to stop."""
    writer = streams[1]
    try:
        yield streams
    except asyncio.CancelledError:
        writer.transport.abort()
        raise
    finally:
        writer.close()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await writer.wait_closed()
        except OSError:
            pass
        finally:
            writer.transport.abort()


async def _connected(host: str, port: int) -> socket.socket:
    """Connect to the first address that answers, or to libpq's socket of a folder."""
    if host.startswith("/"):
        return await _try(socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for found in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            sock = await _try(found[0], found[4])
        except OSError as error:
            failure = error
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
    raise failure or OSError(f"no address for {host}")


async def _try(family: int, address: str | tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003  # its only way
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _ask_for_tls(sock: socket.socket) -> None:
    """Ask, and read one byte and no more: what follows it is TLS or nothing (CVE-2021-23222)."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, postgresql.TLS_REQUEST)
    if await loop.sock_recv(sock, 1) != postgresql.ENCRYPTED:
        reason = "it does not speak TLS, which this target must"
        raise _unreachable(reason)


def _unreachable(reason: str) -> StartError:
    return StartError(f"the database cannot be reached: {reason}", "08001")
