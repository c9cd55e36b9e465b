"""What compiling a configuration shares: the language, and a list of everything wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from gatekeeper.forwardauth.errors import EvaluationError
from gatekeeper.forwardauth.request.head import is_dropped
from gatekeeper.forwardauth.vocabulary import PARTS

if TYPE_CHECKING:
    from collections.abc import Collection

    from gatekeeper.forwardauth.model import Read, Scope
    from gatekeeper.forwardauth.ports import Expression, Language, Pattern

_OF_THE_REQUEST: Final = frozenset({"request.headers", "request.headersAll"})
_HEADERS_BELOW: Final = frozenset({("auth.input", "header"), ("auth.forward", "headers")})
_HEADERS: Final = _OF_THE_REQUEST | {
    "backend.headers",
    "forward.headers",
    *map(".".join, _HEADERS_BELOW),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that cannot be compiled: where in the configuration, and why."""

    where: tuple[str | int, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles the parts of one definition; what fails is noted, and the rest goes on."""

    language: Language
    where: tuple[str | int, ...]
    constants: Mapping[str, Collection[str]]
    """The names that `env` and `secrets` have."""
    faults: list[Fault] = field(default_factory=list)

    def at(self, *parts: str | int) -> Compiler:
        """Return the same compiler, deeper in the document."""
        return Compiler(self.language, (*self.where, *parts), self.constants, self.faults)

    def fault(self, message: str) -> None:
        self.faults.append(Fault(self.where, message))

    def condition(self, source: str) -> Expression:
        return self._expression(self.language.condition, source)

    def expression(self, source: str) -> Expression:
        return self._expression(self.language.expression, source)

    def template(self, source: str) -> Expression:
        return self._expression(self.language.template, source)

    def url(self, source: str) -> Expression:
        return self._expression(self.language.url, source)

    def file(self, path: str) -> Expression:
        return self._expression(self.language.file, path)

    def pattern(self, source: str) -> Pattern:
        try:
            return self.language.pattern(source)
        except ValueError as error:
            self.fault(str(error))
            return _never

    def _expression(self, compile_: Callable[[str], Expression], source: str) -> Expression:
        try:
            compiled = compile_(source)
        except ValueError as error:
            self.fault(str(error))
            return Broken(source)
        for name, *keys in sorted(compiled.reads):
            if keys and (why := self._never_there(name, *keys)):
                self.fault(why)
        return compiled

    def _never_there(self, name: str, key: str, *below: str) -> str | None:
        """Say why there is nothing under a name, for any request.

        A condition that asks whether it is there would never refuse anybody.
        """
        if key not in PARTS.get(name, (key,)):
            return f"{name} has no {key}, only {', '.join(sorted(PARTS[name]))}"
        if (name, key) in _HEADERS_BELOW and below:
            name, key = f"{name}.{key}", below[0]
        if name in _HEADERS and key != key.lower():
            return f"names of headers are in lower case here: {name}[{key.lower()!r}]"
        if name in _OF_THE_REQUEST and is_dropped(key.encode("utf-8", "replace")):
            return (
                f"{name} never has {key}: it is of the connection, or what a proxy tells by;"
                " read request.client, request.host and the others"
            )
        if name in self.constants and key not in self.constants[name]:
            return f"server.variables names no {name}.{key}"
        return None

    def named(
        self, entries: Mapping[str, str], compile_: Callable[[Compiler, str], Expression]
    ) -> tuple[tuple[str, Expression], ...]:
        """Compile a mapping of names to sources, in its order."""
        return tuple((name, compile_(self.at(name), source)) for name, source in entries.items())

    def body(self, body: str | None, body_file: str | None) -> Expression | None:
        """Compile what stands in the document, or in a file of the templates folder."""
        if body is not None:
            return self.at("body").template(body)
        return None if body_file is None else self.at("bodyFile").file(body_file)

    def copied(
        self, entries: Mapping[str, str | None]
    ) -> tuple[tuple[str, Expression | None], ...]:
        """Compile headers or parameters: null (copy the client's own) stays None."""
        return tuple(
            (name, None if source is None else self.at(name).template(source))
            for name, source in entries.items()
        )


class Broken:
    """Stands for an expression that cannot be compiled, in a plan that is thrown away."""

    reads: frozenset[Read] = frozenset()

    def __init__(self, source: str) -> None:
        self.source = source

    def __call__(self, scope: Scope) -> NoReturn:  # noqa: ARG002  # none gives it a value
        raise EvaluationError(self.source)


def _never(text: str) -> bool:  # noqa: ARG001  # a pattern that cannot be compiled fits nothing
    return False


def reads_of(*expressions: Expression | Iterable[Any] | None) -> frozenset[Read]:
    """Join what expressions read; names paired with them, and None, are passed over."""
    found: set[Read] = set()
    for one in expressions:
        if one is None or isinstance(one, str):
            continue
        if isinstance(one, Iterable):
            found |= reads_of(*one)
        else:
            found |= one.reads
    return frozenset(found)
