"""The bytes of an answer. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import Reply

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
KEEP: Final = b""
KEEP_HTTP_1_0: Final = b"connection: keep-alive\r\n"
CLOSE: Final = b"connection: close\r\n"

_PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode()
    for status in range(200, 600)
}
_EMPTY: Final = b"content-length: 0\r\n\r\n"
OURS: Final = frozenset({"connection", "content-length", "date", "transfer-encoding"})
"""What belongs to the connection, not to an answer."""
_NO_CONTENT: Final = frozenset({204, 304})


def response(reply: Reply, *, connection: bytes, date: bytes, head_only: bool = False) -> bytes:
    """Return a whole response. `connection` and `date` are header lines, or empty.

    Raises `ValueError` when the reply cannot be sent as it is meant.
    """
    status, headers, body = reply
    start = _STATUS_LINES.get(status)
    if start is None:
        msg = "the status of a reply is none"
        raise ValueError(msg)
    lines = _lines(headers) if headers else b""
    if status in _NO_CONTENT:  # RFC 9110 section 8.6
        return b"".join((start, date, connection, lines, b"\r\n"))
    if not body:
        return b"".join((start, date, connection, lines, _EMPTY))
    length = b"content-length: %d\r\n\r\n" % len(body)
    return b"".join((start, date, connection, lines, length, b"" if head_only else body))


def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    # A line break in a value would make it two fields, or end the head (CVE-2023-27493).
    breaks = len(headers)
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        msg = "a header field of a reply contains a line break or a NUL"
        raise ValueError(msg)
    if not OURS.isdisjoint([name for name, _ in headers]):
        msg = "a reply names a header field that belongs to the connection"
        raise ValueError(msg)
    return text.encode("latin-1")


def refusal(status: int) -> bytes:
    """Return the last response of a connection."""
    return _STATUS_LINES[status] + CLOSE + _EMPTY
