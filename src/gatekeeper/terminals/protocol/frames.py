"""WebSocket frames (RFC 6455 section 5) of one direction, followed by their heads alone.

A splice moves bytes; this says where in them the frames begin and end. Payloads are jumped
over: they are neither looked at nor unmasked. So a frame of our own can be put between two of
theirs, and what no honest peer sends is found before it is passed on.
"""

from __future__ import annotations

from typing import Final

from gatekeeper.kernel.terminal.closing import CloseCode, reason_bytes

MAX_CLIENT_MESSAGE_BYTES: Final = 131_072
"""Of one message of a client: twice what `gk.term.v1` takes as input."""
MAX_CONTROL_BYTES: Final = 125
"""RFC 6455 section 5.5."""

CONTINUATION: Final = 0x0
CLOSE: Final = 0x8
PING: Final = bytes((0x89, 0))
"""Unmasked, as a server sends it."""

_OPCODES: Final = frozenset({0x0, 0x1, 0x2, 0x8, 0x9, 0xA})
_CONTROL: Final = 0x8
_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_SHORT: Final = 126
_MASK_BYTES: Final = 4
_NO_BOUNDARY: Final = -1


def close_frame(code: int, reason: str) -> bytes:
    """Make an unmasked close frame; the reason is cut to what fits."""
    payload = code.to_bytes(2) + reason_bytes(reason)
    return bytes((_FIN | CLOSE, len(payload))) + payload


class Violation(Exception):  # noqa: N818  # of the protocol, by a peer: no error of ours
    """A peer sent what RFC 6455 forbids, or too much: the code to close with, and why."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameTracker:
    """Follows one direction. `boundary` tells where in the last chunk the last frame ended.

    After a `Violation` it is not to be used any more.
    """

    __slots__ = ("_fragmented", "_head", "_left", "_masked", "_maximum", "_message", "boundary",
                 "closed")  # fmt: skip

    def __init__(self, *, masked: bool, maximum: int) -> None:
        self._masked = masked
        """Whether this direction's frames are masked: a client's must be, a server's must not."""
        self._maximum = maximum
        self._left = 0
        """Bytes of the payload under way that are still to come."""
        self._head = b""
        """The beginning of a head that a chunk ended in."""
        self._message = 0
        """Bytes of the fragmented message under way."""
        self._fragmented = False
        self.boundary = 0
        """How many bytes of the last chunk stand before the last boundary in it; -1: it holds
        none, all of it is in the midst of a frame."""
        self.closed = False
        """Whether a close frame began. Nothing may follow it in this direction."""

    @property
    def between(self) -> bool:
        """Whether all frames so far are whole: one of ours may follow."""
        return not self._left and not self._head

    def feed(self, chunk: bytes | memoryview) -> None:
        """Follow a chunk, and keep nothing of it but a copy of the head that it ends in.

        Raises `Violation`: nothing of the chunk is to be passed on then.
        """
        size = len(chunk)
        left = self._left
        if left > size:
            self._left = left - size
            self.boundary = _NO_BOUNDARY
            return
        at = left
        boundary = at if left else _NO_BOUNDARY
        if self._head:
            chunk = self._head + chunk
            at = 0
            shift, size = len(self._head), len(chunk)
            self._head = b""
        else:
            shift = 0
            if not left:
                boundary = 0
        self._left = 0
        while at < size:
            payload = self._read_head(chunk, at, size)
            if payload < 0:
                self._head = bytes(chunk[at:])
                break
            if payload > size:
                self._left = payload - size
                break
            at = payload
            boundary = at - shift
        self.boundary = boundary

    def _read_head(self, chunk: bytes | memoryview, at: int, size: int) -> int:
        """Check one head; return where its frame ends, or -1 when the head is not whole."""
        if self.closed:
            raise Violation(CloseCode.PROTOCOL_ERROR, "a frame follows a close frame")
        first = chunk[at]
        if at + 2 > size:
            return -1
        second = chunk[at + 1]
        masked = bool(second & _MASKED)
        if masked is not self._masked:
            raise Violation(CloseCode.PROTOCOL_ERROR, "the masking of a frame is wrong")
        length, at = second & _LENGTH, at + 2
        if length >= _SHORT:
            wide = 2 if length == _SHORT else 8
            if at + wide > size:
                self._check(first, length)
                return -1
            length, least = int.from_bytes(chunk[at : at + wide]), length
            at += wide
            if length < (_SHORT if least == _SHORT else 65_536):
                raise Violation(CloseCode.PROTOCOL_ERROR, "a length is not written the short way")
            self._check(first, max(length, least))
        else:
            self._check(first, length)
        if masked:
            at += _MASK_BYTES
            if at > size:
                return -1
        self._count(first, length)
        return at + length

    def _check(self, first: int, length: int) -> None:
        """Refuse what the first byte and the length already show to be wrong."""
        opcode = first & 0x0F
        if first & _RESERVED or opcode not in _OPCODES:
            raise Violation(CloseCode.PROTOCOL_ERROR, "a frame has reserved bits or opcode")
        if opcode & _CONTROL:
            if not first & _FIN:
                raise Violation(CloseCode.PROTOCOL_ERROR, "a control frame is fragmented")
            if length > MAX_CONTROL_BYTES or (opcode == CLOSE and length == 1):
                raise Violation(CloseCode.PROTOCOL_ERROR, "the length of a control frame is wrong")
        elif (opcode == CONTINUATION) is not self._fragmented:
            raise Violation(CloseCode.PROTOCOL_ERROR, "a message is fragmented wrongly")
        elif self._message + length > self._maximum:
            raise Violation(CloseCode.TOO_LARGE, f"a message has at most {self._maximum} bytes")

    def _count(self, first: int, length: int) -> None:
        """Take a head that is whole and good."""
        opcode = first & 0x0F
        if opcode == CLOSE:
            self.closed = True
        elif not opcode & _CONTROL:
            self._fragmented = not first & _FIN
            self._message = self._message + length if self._fragmented else 0
