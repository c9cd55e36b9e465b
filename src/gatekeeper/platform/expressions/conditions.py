"""CEL, the Common Expression Language, type-checked when it is loaded (cel-cpp).

Regular expressions inside CEL are RE2; loops end after 10,000 iterations.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from cel_expr_python import cel

from gatekeeper.platform.expressions.checked import FUNCTIONS, NETWORKS, Checked
from gatekeeper.platform.expressions.errors import ExpressionError
from gatekeeper.platform.expressions.functions import ip_in
from gatekeeper.platform.expressions.values import item

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from gatekeeper.platform.expressions.vocabulary import Vocabulary

MAX_EXPRESSION_CHARS: Final = 4_096

_TEXT: Final = cel.Type.STRING
TYPES: Final = {
    "text": _TEXT,
    "integer": cel.Type.INT,
    "boolean": cel.Type.BOOL,
    "time": cel.Type.TIMESTAMP,
    "map of text": cel.Type.Map(_TEXT, _TEXT),
    "map of lists of text": cel.Type.Map(_TEXT, cel.Type.List(_TEXT)),
    "map of any": cel.Type.Map(_TEXT, cel.Type.DYN),
    "list of any": cel.Type.List(cel.Type.DYN),
    "any": cel.Type.DYN,
}

NUL: Final = "\0"
NUL_SYMBOL: Final = "\u2400"

_FAILURES: Final = (RuntimeError, ValueError, TypeError, SystemError)
"""What the binding raises: beyond 10,000 iterations, for text that is no UTF-8, ..."""

_OF_OTHERS: Final = {"error at: '= '": "==", "input 'and'": "&&", "input 'or'": "||"}
"""Operators of other languages, as the parser stumbles over them, and what CEL has."""

_REASONS: Final = {
    '"ip_in ': "ip_in is given what is no address",
    "Key not found": "a key is not there",
    "No value with name": "a name has no value here",
    "Unexpected value type": "a name has no value here",
    "No matching overloads": "a value is not of the kind it is used as",
    "Iteration budget": "it takes more than 10,000 steps",
    "divide by zero": "it divides by zero",
    "modulus by zero": "it divides by zero",
    "Index error": "an index is out of bounds",
}
"""cel-cpp's own texts can hold values of the request, and those go into no log."""


class Facts:
    r"""The values of one scope, made ready once for all its expressions.

    The binding hands text over up to its first NUL: "admin\0x" would be equal to "admin".
    So what an expression reads is looked through first, each name once, and where there is
    a NUL the symbol for it (U+2400) stands in its place. Names that cannot hold one are not
    looked through: that took more time than to evaluate (8 us of 22 for five conditions).
    """

    __slots__ = ("activation", "checked", "values")

    def __init__(self, environment: cel.Env, values: Mapping[str, Any]) -> None:
        self.values = values
        self.activation = environment.Activation(values)
        self.checked: set[str] = set()

    def check(self, environment: cel.Env, names: frozenset[str]) -> None:
        fresh = names - self.checked
        if any(_has_nul(self.values.get(name)) for name in fresh):
            self.values = {name: _without_nul(value) for name, value in self.values.items()}
            self.activation = environment.Activation(self.values)
            self.checked.update(self.values)
        self.checked |= names


class Conditions:
    """Compiles CEL over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._environment = self._with([])

    @cached_property
    def _extended(self) -> cel.Env:
        """Know cel-cpp's extensions too. They are 10 MB of memory, for whoever uses one."""
        from cel_expr_python.ext import (  # noqa: PLC0415  # as it says
            ext_encoders,
            ext_math,
            ext_optional,
            ext_strings,
        )

        return self._with(
            [
                ext_strings.ExtStrings(),
                ext_math.ExtMath(),
                ext_encoders.ExtEncoders(),
                ext_optional.ExtOptional(),
            ]
        )

    def _with(self, extensions: list[cel.CelExtensionBase]) -> cel.Env:
        return cel.NewEnv(
            variables={name: TYPES[kind] for name, kind in self._vocabulary.kinds.items()}
            | {NETWORKS: cel.Type.Map(_TEXT, cel.Type.BOOL)},
            extensions=[*extensions, _own_functions()],
        )

    def facts(self, values: Mapping[str, Any]) -> Facts:
        return Facts(self._environment, values)

    def condition(self, source: str) -> Condition:
        """Compile what is true or false; of an unknown type it is checked when it runs."""
        compiled = self._compile(source)
        kind = compiled.return_type()
        if kind not in (cel.Type.BOOL, cel.Type.DYN):  # a type has no hash
            msg = f"a condition must be true or false, this is {kind.name().lower()}"
            raise ValueError(msg)
        boolean = kind == cel.Type.BOOL
        return Condition(self._environment, *self._ready(compiled), boolean=boolean)

    def expression(self, source: str) -> Cel:
        return Cel(self._environment, *self._ready(self._compile(source)))

    def _ready(self, compiled: cel.Expression) -> tuple[cel.Expression, Checked]:
        """Put what cel-cpp knows in the place of our own functions, optional values among it."""
        checked = Checked(compiled.serialize(), self._vocabulary)
        if checked.native is not None:
            compiled = self._extended.deserialize(checked.native)
        return compiled, checked

    def _compile(self, source: str) -> cel.Expression:
        if len(source) > MAX_EXPRESSION_CHARS:
            msg = f"an expression may have at most {MAX_EXPRESSION_CHARS} characters"
            raise ValueError(msg)
        try:
            return self._environment.compile(source)
        except _FAILURES:
            pass  # it may use an extension
        try:
            return self._extended.compile(source)
        except _FAILURES as error:
            raise ValueError(self._first_words(str(error))) from None

    def _first_words(self, text: str) -> str:
        """Take the message out of cel-cpp's report: its first line, without the prefix."""
        words = text.split("ERROR: <input>:", 1)[-1].splitlines()[0].strip()
        place, _, name = words.partition(" undeclared reference to '")
        if not name:
            words = words.partition(" expecting {")[0]  # every token there is
            meant = next((cel for other, cel in _OF_OTHERS.items() if other in words), None)
            return f"{words}; write {meant}" if meant else words
        name = name.partition("'")[0]
        if name in FUNCTIONS:
            return f"{place} {name} takes two values"
        return f"{place} {self._vocabulary.unknown(name)}"


class Cel:
    """A compiled expression of any type."""

    __slots__ = ("_doubtful", "_environment", "_eval", "_networks", "reads")

    def __init__(self, environment: cel.Env, compiled: cel.Expression, checked: Checked) -> None:
        self.reads = checked.reads
        self._environment = environment
        self._eval = compiled.eval
        self._doubtful = checked.doubtful
        self._networks = checked.networks

    def evaluate(self, facts: Facts) -> Any:
        return _plain(self._answer(facts))

    def _answer(self, facts: Facts) -> cel.Value:
        if self._doubtful and not self._doubtful <= facts.checked:
            facts.check(self._environment, self._doubtful)
        activation = facts.activation
        if self._networks:
            activation = self._environment.Activation(
                {**facts.values, NETWORKS: dict(self._found(facts.values))}
            )
        try:
            return self._eval(activation)
        except _FAILURES as error:
            raise _failure(str(error)) from None

    def _found(self, values: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
        """Compute `NETWORKS`. What cannot be computed is an error where it is asked for."""
        for asked, (name, *keys), network in self._networks:
            try:
                address = values[name]
                for key in keys:
                    address = item(address, key)
                yield asked, ip_in(address, network)
            except (ExpressionError, KeyError):
                continue


class Condition(Cel):
    """A compiled expression whose value is true or false."""

    __slots__ = ("_boolean",)

    def __init__(
        self, environment: cel.Env, compiled: cel.Expression, checked: Checked, *, boolean: bool
    ) -> None:
        """`boolean`: it is known to be true or false."""
        super().__init__(environment, compiled, checked)
        self._boolean = boolean

    def evaluate(self, facts: Facts) -> bool:
        answer = self._answer(facts)
        # Of an expression that is checked to be BOOL everything else is an error.
        value = answer.value() if self._boolean else _plain(answer)
        if value is True or value is False:
            return value
        if self._boolean:
            raise _failure(str(value))
        msg = "it is neither true nor false"
        raise ExpressionError(msg)


def _own_functions() -> cel.CelExtension:
    """Types alone: `checked` puts what cel-cpp knows in their place."""
    anything, text = cel.Type.DYN, cel.Type.STRING
    return cel.CelExtension(
        "gatekeeper",
        [
            cel.FunctionDecl(
                "lookup",
                [cel.Overload("lookup", return_type=anything, parameters=[anything, anything])],
            ),
            cel.FunctionDecl(
                "ip_in",
                [cel.Overload("ip_in", return_type=cel.Type.BOOL, parameters=[anything, text])],
            ),
        ],
    )


def _failure(text: str) -> ExpressionError:
    for fragment, reason in _REASONS.items():
        if fragment in text:
            return ExpressionError(reason)
    return ExpressionError("it cannot be evaluated")


def _plain(answer: cel.Value) -> Any:
    """Turn an answer into what every other part of a decision can handle; refuse the rest.

    The binding must not convert a null: each time it takes a reference of None too many
    away, and before Python 3.12 the process ends when the last is gone.
    """
    kind = answer.type()
    if kind == cel.Type.NULL:
        return None
    try:
        value = answer.value()
    except _FAILURES:
        value = answer
    if kind == cel.Type.ERROR:
        raise _failure(str(value))
    if isinstance(value, str | bool | int | float | dt.datetime):
        return value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    msg = "its value is of a type that only CEL knows (bytes, duration, type, optional)"
    raise ExpressionError(msg)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return NUL in value
    if isinstance(value, dict):
        return _any_nul(value) or _any_nul(value.values())
    return isinstance(value, list) and _any_nul(value)


def _any_nul(values: Collection[Any]) -> bool:
    try:
        return NUL in "".join(values)
    except TypeError:  # not all of them are text
        return any(map(_has_nul, values))


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(NUL, NUL_SYMBOL)
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return value
