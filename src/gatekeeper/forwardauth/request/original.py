"""The original request, put together out of what a proxy told."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.forwardauth.model import OriginalRequest, RawRequest, Rejected
from gatekeeper.forwardauth.request.head import Head, read_head
from gatekeeper.forwardauth.request.host import MAX_PORT, read_host
from gatekeeper.forwardauth.request.method import read_method
from gatekeeper.forwardauth.request.target import read_target

if TYPE_CHECKING:
    from gatekeeper.forwardauth.request.reading import Reading
    from gatekeeper.forwardauth.request.trust import TrustedPeers

_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
"""A WebSocket begins as an HTTP request (RFC 6455 section 1.3); Traefik tells of ws and wss."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_REMEMBERED_SITES: Final = 256


class Told(NamedTuple):
    """What a proxy said of the original request, word for word."""

    method: str
    scheme: bytes
    host: bytes
    target: bytes
    forwarded_for: bytes | None
    forwarded: bytes | None = None
    port: bytes | None = None


def original_request(told: Told, head: Head, reading: Reading) -> OriginalRequest | Rejected:
    """Make the original request of what a trusted proxy told."""
    client = _client(told, reading.trusted)
    if isinstance(client, Rejected):
        return client
    return _put_together(told, head, reading, client=client, proxied=True)


def request_as_it_arrived(raw: RawRequest, reading: Reading) -> OriginalRequest | Rejected:
    """Take what arrived for the original request, in development, with all that claims otherwise
    stripped.
    """
    head = read_head(raw.headers, reading.names, reading.single)
    if isinstance(head, Rejected):
        return head
    sent, _, _ = head
    told = Told(raw.method, b"http", sent.get(b"host", b""), raw.target, None)
    return _put_together(told, head, reading, client=raw.peer, proxied=False)


def _client(told: Told, trusted: TrustedPeers) -> str | Rejected:
    """Find the client; two headers that name different ones were not both written by a proxy."""
    if told.forwarded is None:
        if told.forwarded_for is None:
            return Rejected(400, "no header names the client")
        return trusted.client(told.forwarded_for)
    client = trusted.client_of_forwarded(told.forwarded)
    if told.forwarded_for is not None and client != trusted.client(told.forwarded_for):
        return Rejected(400, "Forwarded and X-Forwarded-For name different clients")
    return client


def _put_together(
    told: Told, head: Head, reading: Reading, *, client: str, proxied: bool
) -> OriginalRequest | Rejected:
    site = _site(told.method, told.scheme, told.host, told.port)
    if isinstance(site, Rejected):
        return site
    target = read_target(told.target, keep_encoded_slashes=reading.keep_encoded_slashes)
    if isinstance(target, Rejected):
        return target
    _, fields, repeated = head
    return OriginalRequest(*site, *target, fields, repeated, client, proxied)


@lru_cache(MAX_REMEMBERED_SITES)
def _site(
    method: str, scheme: bytes, host: bytes, port: bytes | None
) -> tuple[str, str, str, int | None] | Rejected:
    """Read method, scheme, host and port. They are the same for most requests (0.7 us)."""
    named = _SCHEMES.get(scheme)
    if named is None:
        return Rejected(400, "the scheme is not http or https")
    read = read_method(method)
    if isinstance(read, Rejected):
        return read
    found = read_host(host)
    if isinstance(found, Rejected):
        return found
    name, number = found
    if port is not None:
        stated = _port(port)
        if stated is None or number not in {None, stated}:
            return Rejected(400, "the port is malformed, or not the host's")
        number = stated
    if number == _DEFAULT_PORTS[named]:
        number = None
    return read, named, name, number


def _port(text: bytes) -> int | None:
    if not text.isdigit() or len(text) > len(str(MAX_PORT)):
        return None
    port = int(text)
    return port if 0 < port <= MAX_PORT else None
