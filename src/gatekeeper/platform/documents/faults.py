"""What a model finds wrong with a document: each fault with its line, and what was meant.

The values themselves are never told: they may be secrets.
"""

from __future__ import annotations

import difflib
import types
from datetime import date
from itertools import groupby
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from gatekeeper.platform.documents.document import Location

_NOT_TEXT: Final = (bool, int, float, date)
"""What YAML and TOML make of text that looks like it."""


_MESSAGES: Final = {
    "extra_forbidden": "this key is not known",
    "missing": "this key is missing",
    "string_type": "expected text",
    "list_type": "expected a list",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "ip_any_network": "expected an address, or a network such as 10.0.0.0/8 (0 after the prefix)",
}
"""By kinds of errors of Pydantic's; others say it well themselves."""


ELSEWHERE: Final = "elsewhere"
"""The attribute of a model that has keys which other programs know in its place, or an earlier
one did, and what to write instead."""


class Fault(NamedTuple):
    """One thing that is wrong, and where; `near` is the nearest known key."""

    location: Location
    message: str
    near: str | None = None

    def __str__(self) -> str:
        return self.message + (f"; did you mean {self.near!r}?" if self.near else "")


def dotted(location: Location) -> str:
    return ".".join(map(str, location))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant."""
    near = difflib.get_close_matches(name, sorted(set(known) - {name}), n=1)
    return near[0] if near else None


def find_faults(error: ValidationError, model: type[BaseModel], value: object) -> list[Fault]:
    """Say everything that is wrong with a value of this model, once each."""
    found = [_Found(one, value) for one in error.errors(include_url=False)]
    return [
        _fault(one, message, model)
        for _, same in groupby(found, key=lambda one: one.union)
        for one, message in _of_union(list(same))
    ]


class _Found:
    """An error of Pydantic's. Its location also names the branches of unions, which no document
    has: they are what does not stand there.
    """

    def __init__(self, error: ErrorDetails, value: object) -> None:
        self.error = error
        self.location: Location = ()
        self.branch: Location = ()
        self.union: tuple[object, ...] = (id(self),)
        *_, last = (None, *error["loc"])
        for part in error["loc"]:
            below = _below(value, part)
            if below is _NOTHING and not (part is last and error["type"] == "missing"):
                self.branch = (*self.branch, part)
                self.union = self.location
                continue
            self.location = (*self.location, part)
            value = None if below is _NOTHING else below


_NOTHING: Final = object()


def _below(value: object, part: str | int) -> object:
    if isinstance(value, dict):
        return value.get(part, _NOTHING)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return _NOTHING


def _of_union(found: list[_Found]) -> Iterator[tuple[_Found, str]]:
    """Of the branches of a union keep the one that came furthest: it was meant."""
    branches = {one.branch for one in found}
    if len(branches) == 1:
        yield from ((one, _message(one.error)) for one in found)
        return
    depth = {b: max(len(one.location) for one in found if one.branch == b) for b in branches}
    meant = [one for one in found if depth[one.branch] == max(depth.values())]
    if len({one.branch for one in meant}) == 1:
        yield from ((one, _message(one.error)) for one in meant)
        return
    first, *others = dict.fromkeys(_message(one.error) for one in meant)
    yield meant[0], ", or ".join([first, *(one.removeprefix("expected ") for one in others)])


def _message(error: ErrorDetails) -> str:
    kind, given = error["type"], error.get("input")
    message = _MESSAGES.get(kind) or error["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be ", "expected ")
    if kind == "string_type" and isinstance(given, _NOT_TEXT):
        return f"{message}; put it in quotes"
    if kind in {"int_type", "bool_type", "float_type"} and isinstance(given, str):
        return f"{message}; leave the quotes out"
    return message


def _fault(found: _Found, message: str, model: type[BaseModel]) -> Fault:
    if message == _MESSAGES["model_type"]:
        keys = _keys(_models(model, found.error["loc"]))
        return Fault(found.location, f"{message} of {', '.join(keys)}" if keys else message)
    if found.error["type"] == "union_tag_invalid":
        told = found.error["ctx"]
        tags = [tag.strip("'") for tag in told["expected_tags"].split(", ")]
        message = f"expected {told['discriminator']} to be one of {', '.join(tags)}"
        return Fault(found.location, message, nearest(told["tag"], tags))
    if found.error["type"] == "union_tag_not_found":
        return Fault(found.location, f"the key {found.error['ctx']['discriminator']} is missing")
    if found.error["type"] != "extra_forbidden":
        return Fault(found.location, message)
    key, models = str(found.location[-1]), _models(model, found.error["loc"][:-1])
    for part in models:
        if (instead := getattr(part, ELSEWHERE, {}).get(key)) is not None:
            return Fault(found.location, f"{message}: {instead}")
    return Fault(found.location, message, nearest(key, _keys(models)))


def _keys(models: list[type[BaseModel]]) -> list[str]:
    return [field.alias or name for part in models for name, field in part.model_fields.items()]


def _models(model: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """Return the models that may stand at a location."""
    here: list[Any] = [model]
    for part in location:
        here = [below for one in here for below in _step(one, part)]
    return [one for one in here if isinstance(one, type) and issubclass(one, BaseModel)]


def _step(kind: Any, part: str | int) -> list[Any]:  # noqa: ANN401  # an annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if part in {field.alias, name}:
                return branches(field.annotation)
        tags = [a for f in kind.model_fields.values() for a in get_args(f.annotation)
                if get_origin(f.annotation) is Literal]  # fmt: skip
        return [] if tags and part not in tags else [kind]
    arguments = [one for one in get_args(kind) if one is not ...]
    return branches(arguments[-1]) if arguments else []


def branches(kind: Any) -> list[Any]:  # noqa: ANN401  # an annotation
    """Return the kinds an annotation is made of, without what only constrains them."""
    if get_origin(kind) is Annotated:
        return branches(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return [one for branch in get_args(kind) for one in branches(branch)]
    return [kind]
