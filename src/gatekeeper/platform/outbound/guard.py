"""The addresses that are never connected to, whatever a name resolves to.

A URL that a configuration names may still lead to where it must not: by a name whose answer
somebody else writes, or changes between two questions (DNS rebinding). So the addresses
themselves are judged, and those judged are the ones connected to.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NEVER: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host (RFC 1122 section 3.2.1.3): Linux connects to itself
        "::/128",
        "169.254.0.0/16",  # link-local: the metadata of most clouds
        "fe80::/10",
        "fd00:ec2::254/128",  # the metadata of EC2 over IPv6
        "224.0.0.0/4",  # multicast
        "ff00::/8",
        "255.255.255.255/32",
    )
)
LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_NAT64: Final = ip_network("64:ff9b::/96")
"""RFC 6052: its last 32 bits are an IPv4 address."""


class AddressGuard:
    """Judges addresses: those of `NEVER` are refused, and those of `denied`.

    Loopback is for a URL that says so itself; no name elsewhere leads there.
    """

    def __init__(self, denied: Iterable[Network] = ()) -> None:
        self._denied = (*NEVER, *denied)

    def permits(self, text: str, *, host: str) -> bool:
        """Tell whether a URL with this host may be fetched from this address."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        forms = (address, _embedded(address))
        if any(form in network for form in forms if form for network in self._denied):
            return False
        inside = any(form in network for form in forms if form for network in LOOPBACK)
        return not inside or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Tell whether a host is loopback as it is written."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in LOOPBACK)


def _embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
