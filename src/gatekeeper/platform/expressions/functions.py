"""What conditions and templates can call alike."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from gatekeeper.platform.expressions.errors import ExpressionError

MAX_NETWORKS_KEPT: Final = 1_024


def lookup(container: Any, key: Any) -> Any:
    """Return what a map has under a key; None when it is no map or has no such key."""
    if not isinstance(container, dict) or isinstance(key, list | dict):
        return None
    return container.get(key)


def ip_in(address: Any, network: Any) -> bool:
    """Tell whether an address is in a network, such as 10.0.0.0/8 or 2001:db8::/32.

    An IPv4 address written as IPv6 (::ffff:10.0.0.1) is the IPv4 address.
    """
    if not isinstance(address, str) or not isinstance(network, str):
        msg = "ip_in is given an address and a network as text"
        raise ExpressionError(msg)
    try:
        parsed = ip_address(address)
        mapped = getattr(parsed, "ipv4_mapped", None)
        return (mapped or parsed) in _network(network)
    except ValueError:
        msg = "ip_in is given what is no address or no network"
        raise ExpressionError(msg) from None


@lru_cache(maxsize=MAX_NETWORKS_KEPT)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)
