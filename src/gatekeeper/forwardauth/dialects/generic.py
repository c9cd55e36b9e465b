"""Any proxy, at `/{endpoint}/auth`: the usual headers, and `Forwarded` (RFC 7239) for the client.

Of `Forwarded` only `for` is read. Where X-Forwarded-For stands too, both must name one client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.dialects import x_forwarded
from gatekeeper.forwardauth.dialects.dialect import Dialect
from gatekeeper.forwardauth.dialects.replies import write_whole
from gatekeeper.forwardauth.request.original import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import RawRequest

_FORWARDED: Final = b"forwarded"


def _tell(_raw: RawRequest, sent: Mapping[bytes, bytes]) -> Told:
    return Told(
        sent[x_forwarded.METHOD].decode("latin-1"),
        sent[x_forwarded.PROTO],
        sent[x_forwarded.HOST],
        sent[x_forwarded.URI],
        sent.get(x_forwarded.FOR),
        sent.get(_FORWARDED),
        sent.get(x_forwarded.PORT),
    )


DIALECT: Final = Dialect(
    name="auth",
    headers=x_forwarded.HEADERS_AND_PORT | {_FORWARDED},
    tell=_tell,
    write=write_whole,
)
