"""What a proxy would tell of a request: the reverse of reading it.

For requests that are told instead of arriving. The proxy is one that is set up as it should be:
it replaces the headers by which it speaks, whatever the client sent under these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.forwardauth.dialects import DIALECTS, Dialect, generic
from gatekeeper.forwardauth.model import RawRequest

if TYPE_CHECKING:
    from gatekeeper.forwardauth.config.base import DialectName
    from gatekeeper.forwardauth.rehearsal.message import Message

_HOST: Final = b"host"
_NOT_TOLD: Final = frozenset({b"forwarded", b"x-forwarded-port"})
"""X-Forwarded-For and the host say the same."""


def dialect_called(name: DialectName) -> Dialect:
    """Return a dialect by the name people use."""
    return DIALECTS[generic.DIALECT.name if name == "generic" else name]


def told(message: Message, dialect: Dialect, peer: str) -> RawRequest:
    """Return what would arrive of a request, from a proxy at `peer`."""
    host, target = message.host.encode("latin-1", "replace"), message.target.encode()
    words = {
        _HOST: host,
        b"x-forwarded-method": message.method.encode(),
        b"x-forwarded-proto": message.scheme.encode(),
        b"x-forwarded-host": host,
        b"x-forwarded-uri": target,
        b"x-forwarded-for": message.client.encode(),
        b"x-original-method": message.method.encode(),
        b"x-original-url": message.scheme.encode() + b"://" + host + target,
    }
    spoken = [(name, words[name]) for name in sorted(dialect.headers - _NOT_TOLD | {_HOST})]
    said = [(name, value) for name, value in message.headers if name not in dialect.headers]
    return RawRequest(message.method, target, [*spoken, *said], peer)
