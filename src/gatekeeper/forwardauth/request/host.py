"""The host of the original request."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

from gatekeeper.forwardauth.model import Rejected

MAX_NAME_CHARS: Final = 253
"""Of a domain name (RFC 1035 section 2.3.4)."""
MAX_PORT: Final = 65_535

_LABEL: Final = r"[a-z0-9_-]{1,63}"
_HOST: Final = re.compile(
    rf"(?:(?P<name>{_LABEL}(?:\.{_LABEL})*)\.?|\[(?P<v6>[0-9a-f:.]{{2,45}})\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

_MALFORMED: Final = Rejected(400, "the host is malformed")


class Host(NamedTuple):
    """A host in its one spelling: lower case, no trailing dot, IPv6 in brackets and shortest."""

    name: str
    port: int | None


def read_host(sent: bytes) -> Host | Rejected:
    """Read `host` or `host:port`.

    International names are taken as the A-labels that clients send (RFC 5891), never in
    Unicode: two ways to map it would be two hosts. A number in disguise (`127.1`, `0x7f.1`,
    `2130706433`) is refused, as resolvers take it for an address.
    """
    if len(sent) > MAX_NAME_CHARS + len(".:65535") or not sent.isascii():
        return _MALFORMED
    match = _HOST.fullmatch(sent.decode("ascii").lower())
    if match is None:
        return _MALFORMED
    name = _name(match["name"]) if match["name"] else _literal(match["v6"])
    port = int(match["port"]) if match["port"] else None
    if name is None or (port is not None and not 0 < port <= MAX_PORT):
        return _MALFORMED
    return Host(name, port)


def _name(text: str) -> str | None:
    if len(text) > MAX_NAME_CHARS:
        return None
    if not _NUMBER.fullmatch(text.rpartition(".")[2]):
        return text
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        return None


def _literal(text: str) -> str | None:
    try:
        return f"[{IPv6Address(text)}]"
    except AddressValueError:
        return None
