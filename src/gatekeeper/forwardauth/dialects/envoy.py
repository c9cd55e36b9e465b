"""Envoy with the HTTP filter ext_authz: it asks with the client's own method, path and host.

Scheme and client are told by X-Forwarded-Proto and X-Forwarded-For, which `allowed_headers` must
let through. Waits 200 ms (`timeout` of HttpUri's default in ext_authz.proto).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_whole
from gatekeeper.forwardauth.dialects.x_forwarded import FOR, PROTO
from gatekeeper.forwardauth.request.original import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import RawRequest

_HOST: Final = b"host"


def _tell(raw: RawRequest, sent: Mapping[bytes, bytes]) -> Told:
    return Told(raw.method, sent[PROTO], sent[_HOST], raw.target, sent[FOR])


DIALECT: Final = Dialect(
    name="envoy",
    headers=frozenset({_HOST, PROTO, FOR}),
    budget=0.2,
    tell=_tell,
    write=write_whole,
)
