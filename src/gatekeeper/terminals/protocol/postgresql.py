"""How a PostgreSQL connection begins: all that a relay has to read of it, and no more.

PostgreSQL documentation, sections "Start-up" and "Message Formats" of the frontend/backend
protocol. A first packet is `length(4) code(4) body`, with these codes:

    80877102   cancel: process id and key       80877104   may this be encrypted (GSS)?
    80877103   may this be encrypted (TLS)?     3.x        start: name 00 value 00 ... 00
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

MAX_PACKET_BYTES: Final = 10_000
"""Of a first packet: PostgreSQL's own `MAX_STARTUP_PACKET_LENGTH`."""
MAX_GREETING_BYTES: Final = 30_000
"""Of one message that a server sends before anybody is logged in: libpq's own limit."""
HEAD: Final = struct.Struct(">II")
MESSAGE_HEAD: Final = struct.Struct(">cI")
TLS_REQUEST: Final = HEAD.pack(8, 80_877_103)
NOT_ENCRYPTED: Final = b"N"
ENCRYPTED: Final = b"S"

MECHANISM: Final = b"SCRAM-SHA-256"
_CANCEL: Final = 80_877_102
_ENCRYPTION: Final = {80_877_103, 80_877_104}
_MAJOR: Final = 3
_AUTHENTICATED: Final = 0
_SASL: Final = 10
_PINNED: Final = frozenset({b"user", b"database"})


class StartError(Exception):
    """The connection ends here. The text and `sqlstate` are for the client to see."""

    def __init__(self, text: str, sqlstate: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class EncryptionAsked:
    """The answer is one byte; then comes another first packet."""


@dataclass(frozen=True, slots=True)
class Cancel:
    packet: bytes


@dataclass(frozen=True, slots=True)
class Start:
    packet: bytes
    parameters: tuple[tuple[bytes, bytes], ...]
    """In their order, a name more than once where it was sent more than once."""


def packet_length(head: bytes) -> int:
    """Return how long a first packet is, its 8 bytes of head included."""
    length: int = HEAD.unpack(head)[0]
    if not HEAD.size <= length <= MAX_PACKET_BYTES:
        raise _violation()
    return length


def read_packet(packet: bytes) -> EncryptionAsked | Cancel | Start:
    """Read a whole first packet. Raises `StartError`."""
    code = HEAD.unpack_from(packet)[1]
    if code in _ENCRYPTION:
        return EncryptionAsked()
    if code == _CANCEL:
        return Cancel(packet)
    if code >> 16 != _MAJOR:
        msg = "only version 3 of PostgreSQL's protocol is spoken here"
        raise StartError(msg, "0A000")
    return Start(packet, _parameters(packet[HEAD.size :]))


def check_login(start: Start, *, username: str, database: str) -> None:
    """Refuse every login but one: a server may trust this machine with others.

    A name that is sent twice must be right both times; a server takes one of the two.
    """
    asked = {pair for pair in start.parameters if pair[0] in _PINNED}
    if asked != {(b"user", username.encode()), (b"database", database.encode())}:
        msg = f"this terminal may use database {database!r} as user {username!r} and nothing else"
        raise StartError(msg, "28000")


def greeting_length(head: bytes) -> int:
    """Return how many bytes of a server's message follow its 5 bytes of head."""
    kind, length = MESSAGE_HEAD.unpack(head)
    if kind not in {b"R", b"E", b"v"} or not 4 <= length <= MAX_GREETING_BYTES:  # noqa: PLR2004
        raise not_postgresql()
    return int(length) - 4


def read_greeting(kind: bytes, body: bytes) -> tuple[bytes, bool]:
    """Return what a client is to get of a server's early message, and whether it was the last.

    A server that speaks TLS offers SCRAM bound to that channel, which ends at this relay: libpq
    takes such an offer on a socket without TLS for an attack, so it is left out. Other ways to
    log in would hand out the password, and are refused.
    """
    if kind != b"R":
        return _message(kind, body), kind == b"E"
    asked = int.from_bytes(body[:4], "big") if len(body) >= 4 else -1  # noqa: PLR2004
    if asked == _AUTHENTICATED:
        return _message(kind, body), True
    if asked != _SASL or MECHANISM not in body[4:].split(b"\0"):
        msg = "the database asks for the password in a way that would show it"
        raise StartError(msg, "28000")
    return _message(kind, body[:4] + MECHANISM + b"\0\0"), True


def error_message(error: StartError) -> bytes:
    """Return an `ErrorResponse` that ends a connection."""
    text = str(error).replace("\0", "").encode()
    state = error.sqlstate.encode()
    return _message(b"E", b"SFATAL\0VFATAL\0C" + state + b"\0M" + text + b"\0\0")


def not_postgresql() -> StartError:
    return StartError("what answers where the database should be is not PostgreSQL", "08P01")


def _message(kind: bytes, body: bytes) -> bytes:
    return MESSAGE_HEAD.pack(kind, len(body) + 4) + body


def _parameters(body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Read the pairs as strictly as a server does (`ProcessStartupPacket`)."""
    *fields, last, after = body.split(b"\0") if body.count(b"\0") else (b"?", b"?")
    names, values = fields[::2], fields[1::2]
    if last or after or len(names) != len(values) or b"" in names:
        raise _violation()
    return tuple(zip(names, values, strict=True))


def _violation() -> StartError:
    return StartError("this is not how a PostgreSQL client begins", "08P01")
