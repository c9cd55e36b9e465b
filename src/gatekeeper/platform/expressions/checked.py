"""What a type-checked CEL expression reads, out of its serialised form.

The form is `google.api.expr` CheckedExpr (cel/expr/checked.proto, syntax.proto) in the
protobuf encoding. Of it a few message fields are needed, so they are read here by number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatekeeper.platform.expressions.vocabulary import Read, Vocabulary

ANY_VALUE: Final = 2
CHECKED_EXPR: Final = 4
CONSTANT, IDENTIFIER, SELECT, CALL, LIST, STRUCT, COMPREHENSION = 3, 4, 5, 6, 7, 8, 9
STRING_CONSTANT: Final = 6
ENTRY_PARTS: Final = (3, 4)
COMPREHENSION_PARTS: Final = (2, 4, 5, 6, 7)
ASKS_FOR_A_KEY: Final = frozenset({"lookup", "_[?_]", "_?._"})
"""Calls that give a value of their own when a map has no such key."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def reads_of(serialized: bytes, vocabulary: Vocabulary) -> frozenset[Read]:
    """Return everything the expression can read. What is computed counts as the whole."""
    checked = _message(serialized, ANY_VALUE)
    walk = _Walk(vocabulary)
    walk.read(_message(checked, CHECKED_EXPR))
    return frozenset(walk.reads)


class _Walk:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self.reads: set[Read] = set()
        self._vocabulary = vocabulary

    def read(self, expr: bytes) -> None:
        """Take the value of an expression as read."""
        path = self._path(expr)
        if path is not None:
            self.reads.add(path)

    def _path(self, expr: bytes) -> Read | None:
        """Return the path an expression stands for; None when its reads are taken already."""
        for number, value in _fields(expr):
            if not isinstance(value, bytes):
                continue
            if number == IDENTIFIER:
                name = _text(value, 1)
                return (name,) if name in self._vocabulary.kinds else None
            if number == SELECT:
                return self._select(value)
            if number == CALL:
                return self._call(value)
            if number == LIST:
                self._read_all(value, (1,))
            elif number == STRUCT:
                for entry in _messages(value, 2):
                    self._read_all(entry, ENTRY_PARTS)
            elif number == COMPREHENSION:
                self._read_all(value, COMPREHENSION_PARTS)
        return None

    def _select(self, select: bytes) -> Read | None:
        """`operand.field`, or `has(operand.field)`."""
        path = self._path(_message(select, 1))
        if path is None:
            return None
        field = _text(select, 2)
        if any(number == 3 for number, _ in _fields(select)):
            self.reads.add(self._vocabulary.part(path, field))
            return None
        return (*path, field)

    def _call(self, call: bytes) -> Read | None:
        function = _text(call, 2)
        arguments = [*_messages(call, 1), *_messages(call, 3)]
        if function == "@in":
            self._ask(arguments[1], arguments[0])
        elif function in ASKS_FOR_A_KEY:
            self._ask(arguments[0], arguments[1])
        elif function == "_[_]" and (key := _literal(arguments[1])) is not None:
            path = self._path(arguments[0])
            return None if path is None else (*path, key)
        else:
            for argument in arguments:
                self.read(argument)
        return None

    def _ask(self, container: bytes, key: bytes) -> None:
        literal = _literal(key)
        path = self._path(container)
        if path is not None:
            self.reads.add(path if literal is None else self._vocabulary.part(path, literal))
        self.read(key)

    def _read_all(self, message: bytes, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            for expr in _messages(message, number):
                self.read(expr)


def _literal(expr: bytes) -> str | None:
    for constant in _messages(expr, CONSTANT):
        for number, value in _fields(constant):
            if number == STRING_CONSTANT and isinstance(value, bytes):
                return value.decode()
    return None


def _messages(message: bytes, wanted: int) -> list[bytes]:
    return [
        value for number, value in _fields(message) if number == wanted and isinstance(value, bytes)
    ]


def _message(message: bytes, wanted: int) -> bytes:
    return next(iter(_messages(message, wanted)), b"")


def _text(message: bytes, wanted: int) -> str:
    return _message(message, wanted).decode()


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Read a message of the protobuf encoding: field numbers and their values."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
        else:
            msg = f"wire type {wire} is not used by protobuf 3"
            raise ValueError(msg)
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  # the bit that says that more follows
            return value, at
        shift += 7
