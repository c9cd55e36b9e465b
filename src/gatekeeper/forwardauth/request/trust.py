"""Who is a trusted proxy, and who is the client at the end of a chain of hops."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.forwardauth.model import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_HOPS: Final = 32
"""Of a chain of proxies; longer ones are made up."""
MAX_HOP_BYTES: Final = 64
MAX_REMEMBERED_HOPS: Final = 4_096
"""Then all are forgotten: whoever sends many addresses makes this slower, never bigger."""

UNIX: Final = "unix"
"""The address of a peer on a socket in the file system."""

# An address, with a port or without one. An IPv6 address with a port stands in brackets
# (RFC 7239 section 6); some proxies leave the brackets away when there is no port.
_HOP: Final = re.compile(
    rb"(?:(?P<v4>[0-9.]{7,15})(?::[0-9]{1,5})?"
    rb"|\[(?P<v6>[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,40})\](?::[0-9]{1,5})?"
    rb"|(?P<bare>[0-9A-Fa-f:.]{2,45}))"
)

# RFC 7239 section 4: elements by comma, pairs by semicolon, values as tokens or quoted strings.
# Tokens are taken wider than the grammar (colon and brackets), as proxies write them so.
_PAIR: Final = re.compile(
    rb"[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32})="
    rb'(?:"(?P<quoted>[^"\\\x00-\x08\x0a-\x1f\x7f]*)"|(?P<token>[!#$%&\'*+.^_`|~0-9A-Za-z:\[\]-]+))'
    rb"[ \t]*(?P<end>[;,]|\Z)"
)


class Hop(NamedTuple):
    """One hop of a chain."""

    address: str
    trusted: bool


class TrustedPeers:
    """The proxies whose word is taken: addresses, networks and perhaps `unix`."""

    __slots__ = ("_hops", "_networks", "_peers", "_unix")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network | str]) -> None:
        named = tuple(networks)
        self._networks = tuple(one for one in named if not isinstance(one, str))
        self._unix = UNIX in named
        self._peers: dict[str, bool] = {}
        self._hops: dict[bytes, Hop | None] = {}

    def is_trusted(self, address: str) -> bool:
        """Tell whether whoever connected from this address is a trusted proxy."""
        known = self._peers.get(address)
        if known is None:
            known = self._judge(address)
            if len(self._peers) >= MAX_REMEMBERED_HOPS:
                self._peers.clear()
            self._peers[address] = known
        return known

    def example(self) -> str | None:
        """Return the address of one trusted proxy; None when nobody is trusted."""
        if self._networks:
            return str(self._networks[0].network_address)
        return UNIX if self._unix else None

    def _judge(self, address: str) -> bool:
        if address == UNIX:
            return self._unix
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, chain: bytes) -> str | Rejected:
        """Return the first hop from the right that is no trusted proxy, of X-Forwarded-For.

        What stands left of it are the client's own words, and is not looked at. When all are
        trusted, the client is the leftmost: one of us asks.
        """
        only = self._hops.get(chain)
        return self._walk(chain.split(b",")) if only is None else only.address

    def client_of_forwarded(self, value: bytes) -> str | Rejected:
        """Return the same of a `Forwarded` header (RFC 7239)."""
        hops = _hops_of_forwarded(value)
        if hops is None:
            return Rejected(400, "Forwarded cannot be read")
        return self._walk(hops)

    def _walk(self, hops: list[bytes]) -> str | Rejected:
        if len(hops) > MAX_HOPS:
            return Rejected(400, f"more than {MAX_HOPS} hops")
        hop = None
        for text in reversed(hops):
            hop = self._hops.get(text) or self._hop(text)
            if hop is None:
                return Rejected(400, "a hop that must be believed is no address")
            if not hop.trusted:
                return hop.address
        return hop.address if hop else Rejected(400, "no hop is named")

    def _hop(self, text: bytes) -> Hop | None:
        hop = _parse_hop(text.strip(b" \t"))
        if hop is None:
            return None
        address = str(hop)
        read = Hop(address, self.is_trusted(address))
        if len(self._hops) >= MAX_REMEMBERED_HOPS:
            self._hops.clear()
        if len(text) <= MAX_HOP_BYTES:
            self._hops[text] = read
        return read


def _parse_hop(text: bytes) -> IPv4Address | IPv6Address | None:
    """Read one hop. `unknown` and `_hidden` (RFC 7239 section 6) are none."""
    match = _HOP.fullmatch(text)
    if match is None:
        return None
    return _address((match["v4"] or match["v6"] or match["bare"]).decode())


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; an IPv4 one in IPv6's clothes (RFC 4291 section 2.5.5.2) is IPv4."""
    try:
        if ":" not in text:
            return IPv4Address(text)
        address = IPv6Address(text.partition("%")[0])
    except AddressValueError:
        return None
    return address.ipv4_mapped or address


def _hops_of_forwarded(value: bytes) -> list[bytes] | None:
    """Return the `for` of each element; an element without one is a hop that hides."""
    hops: list[bytes] = []
    hop: bytes | None = None
    position = 0
    while True:
        pair = _PAIR.match(value, position)
        if pair is None or len(hops) > MAX_HOPS:
            return None
        if pair["name"].lower() == b"for":
            if hop is not None:
                return None
            hop = pair["token"] if pair["quoted"] is None else pair["quoted"]
        position = pair.end()
        if pair["end"] != b";":
            hops.append(b"unknown" if hop is None else hop)
            hop = None
        if not pair["end"]:
            return hops
