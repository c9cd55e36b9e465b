"""ingress-nginx with the annotation `auth-url`. Its template always sets the three headers.

X-Real-IP is set too, and not needed: X-Forwarded-For has the same address at its right end.
Waits `proxy_read_timeout`, 60 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_bearable
from gatekeeper.forwardauth.dialects.x_forwarded import FOR
from gatekeeper.forwardauth.request.original import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import RawRequest

_METHOD: Final = b"x-original-method"
_URL: Final = b"x-original-url"


def _tell(_raw: RawRequest, sent: Mapping[bytes, bytes]) -> Told:
    """Take the URL apart at its first slashes: `Host: a.example?` makes no other path of it."""
    scheme, _, rest = sent[_URL].partition(b"://")
    host, slash, target = rest.partition(b"/")
    return Told(sent[_METHOD].decode("latin-1"), scheme, host, slash + target, sent[FOR])


DIALECT: Final = Dialect(
    name="ingress-nginx",
    headers=frozenset({_METHOD, _URL, FOR}),
    tell=_tell,
    write=write_bearable,
)
