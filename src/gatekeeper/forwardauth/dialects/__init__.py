"""How each proxy asks, and how it can be answered: one module for each.

A dialect has a mount of its own, so that nothing in a request decides how it is read, and a
closed list of headers. `dialect.py` says what one is, `replies.py` what proxies can carry,
`x_forwarded.py` has the words most of them use. Envoy by gRPC (`envoy_grpc.py`) has no mount.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.forwardauth.dialects import (
    caddy,
    envoy,
    generic,
    haproxy,
    ingress_nginx,
    nginx,
    traefik,
)
from gatekeeper.forwardauth.dialects.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DIALECTS", "Dialect", "Mount", "mount"]

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        module.DIALECT.name: module.DIALECT
        for module in (generic, nginx, ingress_nginx, traefik, caddy, envoy, haproxy)
    }
)
"""By the name of their mount."""

_GENERIC: Final = generic.DIALECT.name.encode()
_MOUNTS: Final = {name.encode(): name for name in DIALECTS if name != generic.DIALECT.name}
_ENVOY: Final = envoy.DIALECT.name


MAX_REMEMBERED_MOUNTS: Final = 1_024
_REMEMBERED: Final[dict[bytes, Mount]] = {}
_NO_REST: Final = b"/"


class Mount(NamedTuple):
    """Which endpoint is asked, in which dialect."""

    dialect: str
    endpoint: str
    rest: bytes
    """The target of the request that is asked about, where the dialect has it on the request line
    (Envoy); for the others `/` and the query. `RawRequest.target` is this."""


def mount(target: bytes) -> Mount | None:
    """Read `/{endpoint}/auth` (generic) or `/{dialect}/{endpoint}`.

    Byte by byte, without decoding and without tolerance. An endpoint that is named like a
    dialect is not reached by the generic mount. Proxies ask at a few targets again and again:
    these are remembered (0.6 us), but for those of Envoy, which are the clients' own.
    """
    known = _REMEMBERED.get(target)
    if known is not None:
        return known
    read = _read_mount(target)
    if read is not None and read.rest == _NO_REST:
        if len(_REMEMBERED) >= MAX_REMEMBERED_MOUNTS:
            _REMEMBERED.clear()
        _REMEMBERED[target] = read
    return read


def _read_mount(target: bytes) -> Mount | None:
    path, mark, query = target.partition(b"?")
    parts = path.split(b"/", 3)
    if len(parts) < 3 or parts[0] or not parts[2]:  # noqa: PLR2004  # "", two names
        return None
    first, second = parts[1], parts[2]
    dialect = _MOUNTS.get(first)
    if dialect == _ENVOY:
        prefix = len(first) + len(second) + 2
        return Mount(_ENVOY, second.decode("latin-1"), target[prefix:])
    if len(parts) > 3:  # noqa: PLR2004  # something after the two names
        return None
    rest = b"/" + mark + query
    if dialect is not None:
        return Mount(dialect, second.decode("latin-1"), rest)
    if second == _GENERIC and first:
        return Mount(generic.DIALECT.name, first.decode("latin-1"), rest)
    return None
