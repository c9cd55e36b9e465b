"""A type-checked CEL expression as cel-cpp serialises it: what it reads, and our functions.

The form is CheckedExpr (cel/expr/checked.proto and syntax.proto) inside google.protobuf.Any.

`lookup` and `ip_in` are declared with types alone and rewritten here to what cel-cpp knows
itself. Functions in Python are no way: the binding (0.1.3) keeps a reference to every
argument for ever, some 100 bytes a call, and takes 6 us where this takes 0.5.
"""

from __future__ import annotations

from ipaddress import ip_network
from itertools import count
from typing import TYPE_CHECKING, Final

from gatekeeper.platform.expressions.protobuf import field, fields, message_at, messages, text_at

if TYPE_CHECKING:
    from gatekeeper.platform.expressions.vocabulary import Read, Vocabulary

ANY_VALUE: Final = 2
CHECKED_EXPR: Final = 4

# Expr: its id, then one of these.
ID, CONSTANT, IDENTIFIER, SELECT, CALL, LIST, STRUCT, COMPREHENSION = 2, 3, 4, 5, 6, 7, 8, 9
OPERAND, SELECTED, ONLY_TESTED = 1, 2, 3  # of a select
TARGET, FUNCTION, ARGUMENTS = 1, 2, 3  # of a call
ENTRIES: Final = 2
STRING_CONSTANT: Final = 6

PARTS: Final = {SELECT: {1}, CALL: {1, 3}, LIST: {1}, COMPREHENSION: {2, 4, 5, 6, 7}}
"""Where expressions stand in the kinds of expressions."""
ENTRY_PARTS: Final = {3, 4}

ASKS_FOR_A_KEY: Final = frozenset({"lookup", "_[?_]", "_?._"})
"""Calls that give a value of their own when a map has no such key."""

FUNCTIONS: Final = frozenset({"lookup", "ip_in"})
"""Our own; each takes two values."""

NETWORKS: Final = "@networks"
"""The variable that says which addresses are in which networks; nobody can write its name."""

_FIRST_NEW_ID: Final = 1_000_000


class Checked:
    """What is known of an expression: what it reads, what it asks of networks, how it runs."""

    def __init__(self, serialized: bytes, vocabulary: Vocabulary) -> None:
        checked = message_at(serialized, ANY_VALUE)
        expr = message_at(checked, CHECKED_EXPR)
        walk = _Walk(vocabulary)
        walk.read(expr)
        self.reads = frozenset(walk.reads)
        self.doubtful = frozenset(path[0] for path in walk.reads) - vocabulary.without_nul
        """The names it reads that may hold a NUL."""
        self.networks: tuple[tuple[str, Read, str], ...] = ()
        self.native: bytes | None = None
        """Serialised anew; None when it calls none of our functions."""
        if b"lookup" in expr or b"ip_in" in expr:
            rewriter = _Rewriter(vocabulary)
            rewritten = _replaced(checked, CHECKED_EXPR, rewriter.expr(expr))
            self.native = _replaced(serialized, ANY_VALUE, rewritten)
            self.networks = tuple(rewriter.networks)


class _Walk:
    """Finds what an expression reads. What is computed counts as the whole."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.reads: set[Read] = set()
        self._vocabulary = vocabulary

    def read(self, expr: bytes) -> None:
        """Take the value of an expression as read."""
        path = self.path(expr)
        if path is not None:
            self.reads.add(path)

    def path(self, expr: bytes) -> Read | None:
        """Return the path an expression stands for; None when its reads are taken already."""
        for kind, value in fields(expr):
            if not isinstance(value, bytes):
                continue
            if kind == IDENTIFIER:
                name = text_at(value, 1)
                return (name,) if name in self._vocabulary.kinds else None
            if kind == SELECT:
                return self._select(value)
            if kind == CALL:
                return self._call(value)
            if kind == STRUCT:
                for entry in messages(value, ENTRIES):
                    self._read_all(entry, ENTRY_PARTS)
            elif kind in PARTS:
                self._read_all(value, PARTS[kind])
        return None

    def _select(self, select: bytes) -> Read | None:
        """`operand.field`, or `has(operand.field)`."""
        path = self.path(message_at(select, OPERAND))
        if path is None:
            return None
        selected = text_at(select, SELECTED)
        if any(number == ONLY_TESTED for number, _ in fields(select)):
            self.reads.add(self._vocabulary.part(path, selected))
            return None
        return (*path, selected)

    def _call(self, call: bytes) -> Read | None:
        function = text_at(call, FUNCTION)
        arguments = [*messages(call, TARGET), *messages(call, ARGUMENTS)]
        if function == "@in":
            self._ask(arguments[1], arguments[0])
        elif function in ASKS_FOR_A_KEY:
            self._ask(arguments[0], arguments[1])
        elif function == "_[_]" and (key := _literal(arguments[1])) is not None:
            path = self.path(arguments[0])
            return None if path is None else (*path, key)
        else:
            for argument in arguments:
                self.read(argument)
        return None

    def _ask(self, container: bytes, key: bytes) -> None:
        literal = _literal(key)
        path = self.path(container)
        if path is not None:
            self.reads.add(path if literal is None else self._vocabulary.part(path, literal))
        self.read(key)

    def _read_all(self, message: bytes, parts: set[int]) -> None:
        for number, value in fields(message):
            if number in parts and isinstance(value, bytes):
                self.read(value)


class _Rewriter:
    """Puts what cel-cpp knows in the place of our own functions."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.networks: list[tuple[str, Read, str]] = []
        """The keys of `NETWORKS` that are needed: which address, which network."""
        self._vocabulary = vocabulary
        self._ids = count(_FIRST_NEW_ID)

    def expr(self, expr: bytes) -> bytes:
        call = message_at(expr, CALL)
        function = text_at(call, FUNCTION)
        if function in FUNCTIONS:
            first, second = messages(call, ARGUMENTS)
            if function == "ip_in":
                return self._ip_in(first, second)
            return self._lookup(self.expr(first), self.expr(second))
        return b"".join(field(kind, self._inside(kind, value)) for kind, value in fields(expr))

    def _inside(self, kind: int, value: bytes | int) -> bytes | int:
        if not isinstance(value, bytes):
            return value
        if kind == STRUCT:
            return b"".join(
                field(number, self._parts(part, ENTRY_PARTS) if number == ENTRIES else part)
                for number, part in fields(value)
            )
        return self._parts(value, PARTS[kind]) if kind in PARTS else value

    def _parts(self, message: bytes | int, parts: set[int]) -> bytes:
        if not isinstance(message, bytes):
            raise TypeError
        return b"".join(
            field(number, self.expr(part) if number in parts and isinstance(part, bytes) else part)
            for number, part in fields(message)
        )

    def _lookup(self, container: bytes, key: bytes) -> bytes:
        """`c` bound to the container: `type(c) == type({}) ? c[?key].orValue(null) : null`.

        Bound by a fold over nothing that begins with it (as `cel.bind` does it), so that it is
        evaluated once.
        """
        bound = self._new(IDENTIFIER, field(1, b"@container"))
        kinds = [self._called("type", argument) for argument in (bound, self._new(STRUCT, b""))]
        null = self._new(CONSTANT, field(1, 0))
        found = self._called("orValue", null, target=self._called("_[?_]", bound, key))
        result = self._called("_?_:_", self._called("_==_", *kinds), found, null)
        fold = (
            field(1, b"#unused"),
            field(2, self._new(LIST, b"")),
            field(3, b"@container"),
            field(4, container),
            field(5, self._new(CONSTANT, field(2, 0))),
            field(6, bound),
            field(7, result),
        )
        return self._new(COMPREHENSION, b"".join(fold))

    def _ip_in(self, address: bytes, network: bytes) -> bytes:
        """`@networks["…"]`: what is asked of networks is computed before the expression runs."""
        path = _Walk(self._vocabulary).path(address)
        literal = _literal(network)
        if path is None or literal is None:
            msg = 'ip_in is given a name and a literal network: ip_in(request.client, "10.0.0.0/8")'
            raise ValueError(msg)
        try:
            ip_network(literal)
        except ValueError as error:
            msg = f"ip_in is given what is no network: {error}"
            raise ValueError(msg) from None
        key = f"ip_in {len(self.networks)}"
        self.networks.append((key, path, literal))
        asked = self._new(CONSTANT, field(STRING_CONSTANT, key.encode()))
        return self._called("_[_]", self._new(IDENTIFIER, field(1, NETWORKS.encode())), asked)

    def _called(self, function: str, *arguments: bytes, target: bytes | None = None) -> bytes:
        called = b"" if target is None else field(TARGET, target)
        called += field(FUNCTION, function.encode())
        return self._new(CALL, called + b"".join(field(ARGUMENTS, one) for one in arguments))

    def _new(self, kind: int, value: bytes) -> bytes:
        return field(ID, next(self._ids)) + field(kind, value)


def _literal(expr: bytes) -> str | None:
    for constant in messages(expr, CONSTANT):
        for text in messages(constant, STRING_CONSTANT):
            return text.decode()
    return None


def _replaced(message: bytes, wanted: int, value: bytes) -> bytes:
    return b"".join(
        field(number, value if number == wanted else old) for number, old in fields(message)
    )
