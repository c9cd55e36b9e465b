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
    dialect is not reached by the generic mount.
    """
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
