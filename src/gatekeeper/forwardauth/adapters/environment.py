"""`PASSCTRL_SERVER__LISTEN__PORT=9090`: the environment over the server block of the file.

`__` stands between keys; capitals and a `_` between the words of a key do not count. Numbers,
true and false are written as in JSON, and so are lists and mappings.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_origin

from pydantic import BaseModel

from gatekeeper.forwardauth.config import Server
from gatekeeper.forwardauth.errors import Problem
from gatekeeper.platform.documents import branches, dotted, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatekeeper.platform.documents import Location

PREFIX: Final = "PASSCTRL_"
_SERVICE_LINK: Final = re.compile(
    r"PASSCTRL_(?:[A-Z0-9]+_)*?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT|PORT_\d+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)"
)
"""What Kubernetes sets in every pod beside a service called `passctrl` (its documentation:
"Discovering services")."""
_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that a variable can set; `location` is in the server block."""

    variable: str
    location: tuple[str, ...]
    annotation: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaid:
    """A server block with the environment over it, and which variable said what."""

    value: dict[str, Any]
    variables: Mapping[Location, str]
    problems: tuple[Problem, ...]

    def place(self, location: Location) -> str | None:
        """Return the variable that a location's value is from."""
        for length in range(len(location), 0, -1):
            if (name := self.variables.get(location[:length])) is not None:
                return f"environment {name}"
        return None


def overlay(value: dict[str, Any], environ: Mapping[str, str]) -> Overlaid:
    """Put what the environment says over a server block."""
    keys = {_plain(key.variable): key for key in _keys(Server, ())}
    result: dict[str, Any] = _copied(value)
    variables: dict[Location, str] = {}
    problems = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or _is_service_link(name, environ[name]):
            continue
        key = keys.get(_plain(name))
        if key is None:
            near = nearest(name, [known.variable for known in keys.values()])
            problems.append(_problem(name, name, "no key is called so", near))
        elif key.location in variables:
            message = f"{variables[key.location]} says it too"
            problems.append(_problem(name, dotted(("server", *key.location)), message))
        elif _put(result, key, environ[name]):
            variables[key.location] = name
        else:
            message = "expected JSON"
            problems.append(_problem(name, dotted(("server", *key.location)), message))
    return Overlaid(value=result, variables=variables, problems=tuple(problems))


def _problem(variable: str, key: str, message: str, near: str | None = None) -> Problem:
    return Problem(place=f"environment {variable}", key=key, message=message, near=near)


def _is_service_link(name: str, value: str) -> bool:
    if not _SERVICE_LINK.fullmatch(name):
        return False
    return (
        not name.endswith("_PORT") or name.endswith("_SERVICE_PORT") or bool(_ADDRESS.match(value))
    )


def _plain(variable: str) -> str:
    """Leave out what does not count: a `_` between words."""
    return "__".join(part.replace("_", "") for part in variable.removeprefix(PREFIX).split("__"))


def _keys(model: type[BaseModel], location: tuple[str, ...]) -> Iterator[_Key]:
    for name, field in model.model_fields.items():
        here = (*location, field.alias or name)
        block = _block(field.annotation)
        if block is not None:
            yield from _keys(block, here)
            continue
        words = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).upper() for part in here]
        yield _Key(PREFIX + "__".join(["SERVER", *words]), here, field.annotation)


def _block(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  # an annotation
    for one in branches(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _put(value: dict[str, Any], key: _Key, text: str) -> bool:
    """Set a key. Tell whether the text could be read."""
    *blocks, last = key.location
    kinds = {get_origin(one) or one for one in branches(key.annotation)}
    said: Any = text
    if kinds & {int, bool, list, dict}:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return False
    for block in blocks:
        if value.get(block) is None:
            value[block] = {}
        value = value[block]
        if not isinstance(value, dict):
            return True  # the block in the file is none, and is refused there
    value[last] = said
    return True


def _copied(value: Any) -> Any:  # noqa: ANN401  # any part of a document
    return {key: _copied(one) for key, one in value.items()} if isinstance(value, dict) else value
