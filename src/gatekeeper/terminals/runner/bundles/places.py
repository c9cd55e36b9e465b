"""From where a bundle may come: URLs, host patterns, and the addresses behind them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from gatekeeper.platform.outbound.guard import AddressGuard, is_loopback
from gatekeeper.terminals.errors import BundleRefusedError

if TYPE_CHECKING:
    from gatekeeper.terminals.settings import BundleSettings

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, asked for once for each connection; those judged are connected to."""

MAX_URL_CHARS: Final = 2_000
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_NOT_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "240.0.0.0/4", "192.88.99.0/24"),
        *("fc00::/7", "fec0::/10", "2001::/23", "2001:db8::/32", "100::/64", "64:ff9b:1::/48"),
    )
)
"""Beside those that nothing of ours ever connects to (IANA's special-purpose registries)."""
_GUARD: Final = AddressGuard(_NOT_PUBLIC)


@dataclass(frozen=True, slots=True)
class Place:
    """One URL that may be asked."""

    url: str
    scheme: str
    host: str
    port: int
    target: str
    """Path and query."""

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def authority(self) -> str:
        """As HTTP's `Host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default(self.scheme) else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        return self.authority


def place_of(url: str, settings: BundleSettings) -> Place:
    """Read a URL and hold it against the settings. Raises `BundleRefusedError`."""
    place = _parse(url)
    if place.scheme != "https" and not (place.loopback and settings.allow_http_on_loopback):
        message = "A bundle is fetched over https alone"
        raise BundleRefusedError(message)
    if place.loopback and not settings.allow_http_on_loopback:
        message = "A bundle is not fetched from this machine"
        raise BundleRefusedError(message)
    if not matches(place, settings.allowed_hosts):
        message = f"Bundles are not fetched from {place.shown}: it is not in the list"
        raise BundleRefusedError(message)
    return place


def next_place(place: Place, location: str, settings: BundleSettings) -> Place:
    """Return where a redirect leads, if that may be asked too. None leads to this machine."""
    if not location:
        message = "A redirect leads nowhere"
        raise BundleRefusedError(message)
    found = place_of(urljoin(place.url, location), settings)
    if found.loopback and not place.loopback:
        message = "A redirect leads to this machine"
        raise BundleRefusedError(message)
    return found


def matches(place: Place, patterns: Sequence[str]) -> bool:
    """Tell whether a pattern names this host: itself, or `*.` and a parent; with or without port.

    Without a port it is the scheme's own, or on loopback any.
    """
    return any(_matches(place, pattern) for pattern in patterns)


def _matches(place: Place, pattern: str) -> bool:
    name, _, port = pattern.partition(":")
    if port:
        if place.port != int(port):
            return False
    elif place.port != 443 and not place.loopback:  # noqa: PLR2004 - of https
        return False
    if name.startswith("*."):
        return place.host.endswith(name[1:]) and len(place.host) > len(name) - 1
    return place.host == name


def _parse(url: str) -> Place:
    if len(url) > MAX_URL_CHARS or not _VISIBLE.fullmatch(url):
        message = f"The URL must be at most {MAX_URL_CHARS} visible ASCII characters"
        raise BundleRefusedError(message)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    else:
        if parts.scheme not in {"http", "https"} or parts.username is not None or "\\" in url:
            host = None
    if not host or host.endswith(".") or "%" in host:
        message = "The URL is none that can be fetched"
        raise BundleRefusedError(message)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(url, parts.scheme, host, port or _default(parts.scheme), target)


def _default(scheme: str) -> int:
    return 443 if scheme == "https" else 80


async def addresses_of(place: Place, resolve: Resolver) -> list[str]:
    """Return the addresses that may be connected to: public ones, or for loopback its own."""
    try:
        ip_address(place.host)
    except ValueError:
        found = await _resolved(place, resolve)
    else:
        found = [place.host]
    permitted = [address for address in found if _permits(address, place)]
    if not permitted:
        message = f"{place.shown} leads to an address that bundles are not fetched from"
        raise BundleRefusedError(message)
    return permitted


def _permits(text: str, place: Place) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if not _GUARD.permits(text, host=place.host):
        return False
    return address.is_loopback if place.loopback else address.is_global


async def _resolved(place: Place, resolve: Resolver) -> Sequence[str]:
    try:
        return await resolve(place.host, place.port)
    except (OSError, UnicodeError):
        message = f"{place.shown} has no address"
        raise BundleRefusedError(message) from None


async def system_resolver(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))
