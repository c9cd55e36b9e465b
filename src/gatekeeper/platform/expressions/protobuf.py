"""The protobuf encoding, as far as a message is read or made by field numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
_MORE: Final = 0x80
"""The bit of a byte that says that a number goes on."""


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Return the numbers of a message's fields and their values."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        size, at = _varint(message, at) if wire == _BYTES else (_SIZES[wire], at)
        yield number, message[at : at + size]
        at += size


def messages(message: bytes, wanted: int) -> list[bytes]:
    return [
        value for number, value in fields(message) if number == wanted and isinstance(value, bytes)
    ]


def message_at(message: bytes, wanted: int) -> bytes:
    """Return the only message of a field; the empty one when it is left out."""
    return next(iter(messages(message, wanted)), b"")


def text_at(message: bytes, wanted: int) -> str:
    return message_at(message, wanted).decode()


def field(number: int, value: bytes | int) -> bytes:
    """Encode a field: a number, or text or a message."""
    if isinstance(value, int):
        return _encoded(number << 3 | _VARINT) + _encoded(value)
    return _encoded(number << 3 | _BYTES) + _encoded(len(value)) + value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return value, at
        shift += 7


def _encoded(value: int) -> bytes:
    encoded = bytearray()
    while value >= _MORE:
        encoded.append(value & (_MORE - 1) | _MORE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
