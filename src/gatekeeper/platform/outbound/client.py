"""One pool of HTTP connections, bounded in every direction.

It follows no redirect, keeps no cookie, reads no proxy from the environment, and adds no header
that was not given but `Host` and those that frame the body. Whoever calls sets the deadline.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from multidict import CIMultiDict

from gatekeeper.platform.outbound.links import parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp.abc import AbstractResolver, ResolveResult

    from gatekeeper.platform.outbound.guard import AddressGuard

CONNECT_SECONDS: Final = 5.0
"""To one address; the next of the same name is tried then."""
KEPT_SECONDS: Final = 15.0
"""How long an idle connection is kept: less than servers usually keep theirs."""
NAMES_SECONDS: Final = 10
"""How long the addresses of a name are remembered."""
MAX_REQUEST_BODY_BYTES: Final = 1_048_576
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 8_190
"""Of one header's value, and of the status line."""
MAX_HEADERS_BYTES: Final = 65_536
"""Of all names and values together."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 5.6.2."""
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
"""Control characters other than tab, which could begin a line, and lone surrogates."""
_OF_THE_CONNECTION: Final = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
"""What frames a message or speaks to the next hop alone (RFC 9110 section 7.6.1): ours to write."""
_UNASKED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Answer(NamedTuple):
    """What came back, whole. Header names are in lower case, repeated ones joined by ", "."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(NamedTuple):
    """Why nothing came back, in words of ours: nothing the other side said is in them."""

    reason: str
    passing: bool = False
    """Whether another try may go better."""
    sent: bool = True
    """Whether the other side may have seen the request."""


class AddressRefusedError(OSError):
    """The guard does not let us connect to this address."""


class OutboundClient:
    """Sends requests. Its pool is made at the first, on the loop that runs then."""

    def __init__(
        self,
        *,
        guard: AddressGuard,
        max_connections: int,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """`resolver` None: the system's."""
        self._guard = guard
        self._max_connections = max_connections
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        max_bytes: int,
    ) -> Answer | NoAnswer:
        """Send one request and read at most so many bytes of body, decompressed.

        The caller's `asyncio.timeout` ends it.
        """
        target = parse_url(url)
        if target is None:
            return NoAnswer("the URL is none that can be called", sent=False)
        if (fault := _fault(method, headers, body)) is not None:
            return NoAnswer(fault, sent=False)
        if self._closed:
            return NoAnswer("this process is stopping", sent=False)
        if self._session is None:
            self._session = self._make_session()
        try:
            async with self._session.request(
                method, target, headers=CIMultiDict(headers), data=body, allow_redirects=False
            ) as response:
                return await _read(response, max_bytes)
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            # uvloop raises RuntimeError where asyncio raises OSError.
            return _no_answer(error)

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _make_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections,
                keepalive_timeout=KEPT_SECONDS,
                ttl_dns_cache=NAMES_SECONDS,
                resolver=_GuardedResolver(self._guard, self._resolver),
                socket_factory=self._open,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=_UNASKED,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    def _open(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """Make the socket for an address: the last look before it is connected to.

        Addresses that stand in a URL come here without having been resolved.
        """
        family, kind, protocol, _, peer = info
        address = str(peer[0])
        if not self._guard.permits(address, host=address):
            raise AddressRefusedError
        return socket.socket(family, kind, protocol)


class _GuardedResolver(aiohttp.abc.AbstractResolver):
    """Leaves out what the guard refuses. What is left is what is connected to."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver | None) -> None:
        self._guard = guard
        self._resolver = resolver or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        permitted = [one for one in found if self._guard.permits(one["host"], host=host)]
        if found and not permitted:
            raise AddressRefusedError
        return permitted

    async def close(self) -> None:
        await self._resolver.close()


def _fault(method: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> str | None:
    """Say why a request cannot be sent."""
    if not _TOKEN.fullmatch(method) or method == "CONNECT":
        return "the method is none that can be sent"
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or name.lower() in _OF_THE_CONNECTION:
            return f"the header {name[:64]!r} is none that can be set"
        if _UNSENDABLE.search(value):
            return f"the value of the header {name} cannot be sent"
    if body is not None and len(body) > MAX_REQUEST_BODY_BYTES:
        return f"the body has more than {MAX_REQUEST_BODY_BYTES} bytes"
    return None


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> Answer | NoAnswer:
    headers = _joined(response.raw_headers)
    if headers is None:
        return NoAnswer(f"its headers have more than {MAX_HEADERS_BYTES} bytes")
    chunks, left = [], max_bytes
    async for chunk in response.content.iter_any():
        left -= len(chunk)
        if left < 0:
            return NoAnswer(f"its body has more than {max_bytes} bytes")
        chunks.append(chunk)
    return Answer(response.status, headers, b"".join(chunks))


def _joined(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str] | None:
    if sum(len(name) + len(value) for name, value in raw) > MAX_HEADERS_BYTES:
        return None
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii", "replace").lower(), value.decode("utf-8", "replace")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _no_answer(error: Exception) -> NoAnswer:
    """Translate the library's errors, which may hold what the other side sent."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return NoAnswer("its certificate is not trusted", sent=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, AddressRefusedError):
            return NoAnswer("its address is one that is never connected to", sent=False)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return NoAnswer("its name has no address", passing=True, sent=False)
        if isinstance(error, aiohttp.ClientSSLError):
            return NoAnswer("no TLS connection can be made to it", sent=False)
        return NoAnswer("it cannot be connected to", passing=True, sent=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NoAnswer("it cannot be connected to in time", passing=True, sent=False)
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return NoAnswer("the connection broke", passing=True)
    return NoAnswer("what it answered is not HTTP within our limits")
