"""Envoy with the HTTP filter ext_authz: it asks with the client's own method, path and host.

Scheme and client are told by X-Forwarded-Proto and X-Forwarded-For, which `allowed_headers` must
let through. Waits 200 ms (`timeout` of HttpUri's default in ext_authz.proto).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_whole
from gatekeeper.forwardauth.dialects.x_forwarded import FOR, PROTO
from gatekeeper.forwardauth.model import Rejected
from gatekeeper.forwardauth.request.original import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import RawRequest

HOST: Final = b"host"
_COOKIE: Final = b"cookie"
_JOINED: Final = re.compile(rb",[^;]*=")


def tell(raw: RawRequest, sent: Mapping[bytes, bytes]) -> Told:
    """Collect what Envoy says."""
    return Told(raw.method, sent[PROTO], sent[HOST], raw.target, sent[FOR])


def tell_joined(raw: RawRequest, sent: Mapping[bytes, bytes]) -> Told | Rejected:
    """Collect it where repeated headers come joined by a comma, cookies too.

    `a=1,a=2` is one cookie here and two to the application, which gets what the client sent.
    """
    if _JOINED.search(sent.get(_COOKIE, b"")):
        return Rejected(400, "Cookie stands twice, or a cookie looks like two")
    return tell(raw, sent)


DIALECT: Final = Dialect(
    name="envoy",
    headers=frozenset({HOST, PROTO, FOR}),
    tell=tell_joined,
    write=write_whole,
)
