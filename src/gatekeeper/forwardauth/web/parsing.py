"""The bytes of a request, read strictly. Pure: bytes in, a request or a refusal out.

A head is looked for first and read then, as a whole: the request line here, the header
fields by llhttp with no leniency. So nothing can stand in a head that was not looked at,
and what llhttp lets through that a proxy may read otherwise (spaces around the target,
HTTP/0.9, RTSP, chunk extensions) is closed here. Bodies are counted and thrown away.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import httptools

if TYPE_CHECKING:
    from gatekeeper.forwardauth.web.limits import Limits

HEAD_END: Final = b"\r\n\r\n"

# RFC 9112 section 3, the origin form alone. `#` is not sent by any client that means well.
_REQUEST_LINE: Final = re.compile(rb"([A-Z-]{1,20}) (/[\x21\x22\x24-\x7e]*) HTTP/1\.([01])\r\n")
_LONGEST_LINE_BESIDES_TARGET: Final = 40

# RFC 9112 section 2.2: a lone LF or CR is how two parsers come to see two requests.
_NEVER_IN_A_HEAD: Final = re.compile(rb"(?<!\r)\n|\r[^\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

METHODS: Final = {
    name.encode(): name
    for name in """
        ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY
        MKCALENDAR MKCOL MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT
        QUERY REBIND REPORT SEARCH SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE
    """.split()  # noqa: SIM905  # reads better than a list of strings
}
"""Those that HTTP has and llhttp knows. Not CONNECT: nothing is tunnelled here."""

_HOST: Final = b"host"
_FRAMING: Final = (_HOST, b"content-length", b"transfer-encoding", b"expect", b"connection")
"""The fields that say where a request ends and what becomes of the connection."""
_FRAMING_NAMES: Final = frozenset(_FRAMING)


class Refusal(NamedTuple):
    """Why a connection is ended: the status it is told, and the reason for the log."""

    status: int
    reason: str


class Body(Protocol):
    def take(self, buffer: bytearray) -> bool | Refusal:
        """Remove what belongs to the body, and tell whether it is complete."""
        ...


class Head(NamedTuple):
    """A request, but for its body."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    http_1_0: bool = False
    keep_alive: bool = True
    body: Body | None = None
    expects_continue: bool = False


class HeadReader:
    """Reads the heads of one connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._framing: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field from llhttp, which leaves the white space behind a value."""
        field = (name.lower(), value.rstrip(b" \t"))
        self._headers.append(field)
        if field[0] in _FRAMING_NAMES:
            self._framing.append(field)

    def read(self, head: bytes) -> Head | Refusal:
        """Read a whole head: everything up to and with the first empty line."""
        if len(head) > self._limits.head_bytes:
            return Refusal(431, "the head is too long")
        line = _REQUEST_LINE.match(head)
        if line is None:
            return Refusal(400, "no request line of HTTP/1.1 or 1.0 in origin form")
        name, target, minor = line.groups()
        method = METHODS.get(name)
        if method is None:
            return Refusal(400, "the method is not known")
        if len(target) > self._limits.target_bytes:
            return Refusal(414, "the target is too long")
        self._headers, self._framing = [], []
        headers, framing = self._headers, self._framing
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            # Not taken, and the request answered (RFC 9110 section 7.8): Caddy passes on what a
            # WebSocket begins with. A new parser, as this one expects another protocol now.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            return Refusal(400, "the head is malformed")
        if len(headers) > self._limits.headers:
            return Refusal(431, "too many header fields")
        if len(head) > self._limits.value_bytes and any(
            len(value) > self._limits.value_bytes for _, value in headers
        ):
            return Refusal(431, "a header field is too long")
        if minor == b"1" and len(framing) == 1 and framing[0][0] == _HOST:
            return Head(method, target, headers)
        return self._framed(Head(method, target, headers, http_1_0=minor == b"0"), framing)

    def _framed(self, head: Head, fields: list[tuple[bytes, bytes]]) -> Head | Refusal:
        """Read how the request ends, and whether the connection does with it."""
        hosts, lengths, codings, expectations, options = (
            [value for name, value in fields if name == wanted] for wanted in _FRAMING
        )
        # RFC 9112 section 3.2.
        if len(hosts) > 1 or not (hosts or head.http_1_0):
            return Refusal(400, "not exactly one Host")
        body = _body(lengths, codings, http_1_0=head.http_1_0, most=self._limits.body_bytes)
        if isinstance(body, Refusal):
            return body
        if body is not None:
            # To llhttp the body would come next, and it never sees one.
            self._parser = httptools.HttpRequestParser(self)
        # RFC 9110 section 10.1.1: HTTP/1.0 knows no expectations.
        expects = bool(expectations) and not head.http_1_0
        if expects and any(value.lower() != b"100-continue" for value in expectations):
            return Refusal(417, "an expectation that is not known")
        said = {option.strip(b" \t").lower() for value in options for option in value.split(b",")}
        # RFC 9112 section 9.3.
        keep_alive = b"close" not in said and (not head.http_1_0 or b"keep-alive" in said)
        return head._replace(keep_alive=keep_alive, body=body, expects_continue=expects)

    def unfinished(self, buffer: bytearray, seen: int) -> Refusal | None:
        """Refuse what can no longer become a head, of which `seen` bytes were looked at before."""
        if len(buffer) > self._limits.head_bytes:
            return Refusal(431, "the head is too long")
        if _NEVER_IN_A_HEAD.search(buffer, max(seen - 1, 0)) is not None:
            return Refusal(400, "the head is malformed")
        line_end = buffer.find(b"\r\n")
        if line_end < 0:
            if len(buffer) > self._limits.target_bytes + _LONGEST_LINE_BESIDES_TARGET:
                return Refusal(414, "the target is too long")
        elif _REQUEST_LINE.match(buffer) is None:
            return Refusal(400, "no request line of HTTP/1.1 or 1.0 in origin form")
        return None


def _body(
    lengths: list[bytes], codings: list[bytes], *, http_1_0: bool, most: int
) -> Body | Refusal | None:
    """Choose how the body is read. Whatever two parsers may read differently is refused."""
    if len(lengths) + len(codings) > 1:
        return Refusal(400, "more than one statement of the length of the body")
    if codings:
        if http_1_0 or codings[0].lower() != b"chunked":
            return Refusal(400, "a transfer coding that is not chunked alone")
        return ChunkedBody(most)
    if not lengths:
        return None
    if not lengths[0].isdigit() or len(lengths[0]) > _LONGEST_LENGTH:
        return Refusal(400, "the length of the body is no number")
    length = int(lengths[0])
    if length > most:
        return _TOO_LARGE
    return SizedBody(length) if length else None


_TOO_LARGE: Final = Refusal(413, "the body is too large")
_LONGEST_LENGTH: Final = 20
"""Digits of a length. Beyond some thousand, zeros before it too, Python makes no number of them."""


class SizedBody:
    """A body whose length was said."""

    def __init__(self, length: int) -> None:
        self._left = length

    def take(self, buffer: bytearray) -> bool | Refusal:
        taken = min(self._left, len(buffer))
        del buffer[:taken]
        self._left -= taken
        return self._left == 0


_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
_SIZE_SO_FAR: Final = re.compile(rb"[0-9A-Fa-f]{0,8}\r?")
_LONGEST_SIZE_LINE: Final = 10
_LEAST_COST: Final = 64
"""What a chunk counts for at the least, in bytes: tiny ones cost time, not memory."""


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1), without extensions and trailers.

    Proxies send neither; both have been used to hide a request in another
    (CVE-2025-55315 was an extension that ended in a lone LF).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = 0
        """Of the chunk under way, with the CRLF behind it."""
        self._last = False

    def take(self, buffer: bytearray) -> bool | Refusal:
        while buffer:
            outcome = self._data(buffer) if self._left else self._line(buffer)
            if outcome is not None:
                return outcome
        return False

    def _data(self, buffer: bytearray) -> bool | Refusal | None:
        """Skip data; what is left of a chunk in the end is its CRLF."""
        skipped = min(max(self._left - 2, 0), len(buffer))
        del buffer[:skipped]
        self._left -= skipped
        while buffer and 0 < self._left <= len(_CRLF):
            if buffer[0] != _CRLF[-self._left]:
                return Refusal(400, "a chunk is longer than it said, or a trailer follows")
            del buffer[:1]
            self._left -= 1
        return True if self._last and not self._left else None

    def _line(self, buffer: bytearray) -> bool | Refusal | None:
        end = buffer.find(_CRLF, 0, _LONGEST_SIZE_LINE)
        if end < 0:
            if _SIZE_SO_FAR.fullmatch(buffer) is None:
                return Refusal(400, "the size of a chunk is malformed")
            return False
        if _SIZE.fullmatch(buffer, 0, end) is None:
            return Refusal(400, "the size of a chunk is malformed")
        size = int(buffer[:end], 16)
        del buffer[: end + len(_CRLF)]
        self._most -= max(size, _LEAST_COST) if size else 0
        if self._most < 0:
            return _TOO_LARGE
        self._left, self._last = size + len(_CRLF), size == 0
        return None


_CRLF: Final = b"\r\n"
