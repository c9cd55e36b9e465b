"""Heads of HTTP/1.1 messages (RFC 9112), read strictly: a client's upgrade, and its answer.

A head is looked for first and read then, as a whole. Nothing is mended: a lone LF or CR, a
folded line, a space before a colon, or a second field where there may be one is how two parsers
come to see two requests, so each ends the connection.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES: Final = 16_384
"""With the empty line that ends it."""
MAX_HEADERS: Final = 100
MAX_TARGET_BYTES: Final = 2_048
HEAD_END: Final = b"\r\n\r\n"

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,20}) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1")
"""RFC 9112 section 3, the origin form alone, and without a fragment."""
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_CONTROLS: Final = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\r\n")
"""What no head holds anywhere (RFC 9110 section 5.5)."""
_TOKEN_BYTES: Final = (
    b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
_SINGLE: Final = frozenset({"host", "origin", "upgrade", "content-length", "transfer-encoding"})
"""Beside all that begin with `sec-websocket-`: a second one is refused, never joined."""


class Malformed(NamedTuple):
    """A head that is not read any further: the status to answer, and why."""

    status: int
    reason: str


class RequestHead(NamedTuple):
    """Header names are lower case; fields of one name that may be many are joined by a comma."""

    method: str
    target: str
    headers: Mapping[str, str]


class ResponseHead(NamedTuple):
    status: int
    headers: Mapping[str, str]


class HeadReader:
    """Collects the bytes of one head, and never more than `MAX_HEAD_BYTES` of them."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def begun(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | Malformed | None:
        """Return the head (with its end) and what came behind it; None: there is more to come."""
        buffer = self._buffer
        # The end may have begun in what was searched before.
        searched = max(len(buffer) - len(HEAD_END) + 1, 0)
        buffer += data
        end = buffer.find(HEAD_END, searched, MAX_HEAD_BYTES)
        if end >= 0:
            end += len(HEAD_END)
            head, rest = bytes(buffer[:end]), bytes(buffer[end:])
            buffer.clear()
            return head, rest
        if len(buffer) >= MAX_HEAD_BYTES:
            return Malformed(431, f"the head has at most {MAX_HEAD_BYTES} bytes")
        # A line's end may be cut by what has come so far, and by what was looked at before.
        fresh = buffer[searched:].removesuffix(b"\r")
        if _is_malformed(fresh.removeprefix(b"\n") if searched else fresh):
            return Malformed(400, "the head is malformed")
        return None


def read_request(head: bytes) -> RequestHead | Malformed:
    """Read a whole head, as `HeadReader` returns it."""
    lines = _lines(head)
    if isinstance(lines, Malformed):
        return lines
    first = _REQUEST_LINE.fullmatch(lines[0])
    if first is None:
        return Malformed(400, "no request line of HTTP/1.1 in origin form")
    if len(first[2]) > MAX_TARGET_BYTES:
        return Malformed(414, f"the target has at most {MAX_TARGET_BYTES} bytes")
    headers = _fields(lines[1:])
    if isinstance(headers, Malformed):
        return headers
    return RequestHead(first[1].decode(), first[2].decode(), headers)


def read_response(head: bytes) -> ResponseHead | Malformed:
    lines = _lines(head)
    if isinstance(lines, Malformed):
        return lines
    first = _STATUS_LINE.fullmatch(lines[0])
    if first is None:
        return Malformed(400, "no status line of HTTP/1.1")
    headers = _fields(lines[1:])
    if isinstance(headers, Malformed):
        return headers
    return ResponseHead(int(first[1]), headers)


def _lines(head: bytes) -> list[bytes] | Malformed:
    if len(head) > MAX_HEAD_BYTES:
        return Malformed(431, f"the head has at most {MAX_HEAD_BYTES} bytes")
    if not head.endswith(HEAD_END) or _is_malformed(head):
        return Malformed(400, "the head is malformed")
    lines = head[: -len(HEAD_END)].split(b"\r\n")
    if len(lines) - 1 > MAX_HEADERS:
        return Malformed(431, f"the head has at most {MAX_HEADERS} fields")
    return lines


def _is_malformed(data: bytes | bytearray) -> bool:
    """Tell whether a CR or LF stands alone (RFC 9112 section 2.2), or a control character does.

    By counting: a regular expression takes 20 times as long.
    """
    ends = data.count(b"\r\n")
    return (
        data.count(b"\n") != ends
        or data.count(b"\r") != ends
        or len(data.translate(None, _CONTROLS)) != len(data)
    )


def _fields(lines: list[bytes]) -> dict[str, str] | Malformed:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # What is left of a token without its characters: a folded line, or a space, is too.
        if not colon or not name or name.translate(None, _TOKEN_BYTES):
            return Malformed(400, "a header field is malformed")
        key = name.decode().lower()
        text = value.strip(b" \t").decode("latin-1")
        if key not in headers:
            headers[key] = text
        elif key in _SINGLE or key.startswith("sec-websocket-"):
            return Malformed(400, f"there are two fields {key}")
        else:
            headers[key] += f", {text}"
    return headers
