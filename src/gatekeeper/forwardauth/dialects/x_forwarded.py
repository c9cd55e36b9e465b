"""The words most proxies use: X-Forwarded-Method, -Proto, -Host, -Uri and -For."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.request.original import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.forwardauth.model import RawRequest

METHOD: Final = b"x-forwarded-method"
PROTO: Final = b"x-forwarded-proto"
HOST: Final = b"x-forwarded-host"
URI: Final = b"x-forwarded-uri"
PORT: Final = b"x-forwarded-port"
FOR: Final = b"x-forwarded-for"

HEADERS: Final = frozenset({METHOD, PROTO, HOST, URI, FOR})
HEADERS_AND_PORT: Final = HEADERS | {PORT}


def tell(_raw: RawRequest, sent: Mapping[bytes, bytes]) -> Told:
    """Collect them; the port is the host's."""
    return Told(sent[METHOD].decode("latin-1"), sent[PROTO], sent[HOST], sent[URI], sent[FOR])


def tell_with_port(_raw: RawRequest, sent: Mapping[bytes, bytes]) -> Told:
    """Collect them, and X-Forwarded-Port where it stands."""
    return Told(
        sent[METHOD].decode("latin-1"),
        sent[PROTO],
        sent[HOST],
        sent[URI],
        sent[FOR],
        None,
        sent.get(PORT),
    )
