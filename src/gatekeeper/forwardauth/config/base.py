"""What all parts of a configuration share: strictness, names, durations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    StringConstraints,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_EXPRESSION_CHARS: Final = 4_096
MAX_NAME_CHARS: Final = 64
MAX_ITEMS: Final = 1_000
"""Of any list or mapping in a configuration but `rules` and `endpoints` themselves."""
MAX_DEFINITIONS: Final = 20_000

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(?:\d{1,9}(?:ms|s|m|h))+")
_PART: Final = re.compile(r"(\d+)(ms|s|m|h)")


def _tidy(schema: dict[str, Any]) -> None:
    """A block that is left out has the defaults of its keys: its schema need not repeat them."""
    for key in schema.get("properties", {}).values():
        if isinstance(key.get("default"), dict) and "$ref" in key:
            del key["default"]


class Strict(BaseModel):
    """Keys are camel case; an unknown one is an error, and so is a value of another type."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        json_schema_extra=_tidy,
    )

    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Keys of the original PassCtrl's files, and what is written here instead."""


def _given(value: object) -> object:
    if value is None:
        msg = "nothing stands here: give it a value, or leave the key out"
        raise ValueError(msg)
    return value


def _without_null(schema: dict[str, Any]) -> None:
    del schema["default"]
    kinds = [kind for kind in schema.pop("anyOf") if kind != {"type": "null"}]
    schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


T = TypeVar("T")
Omittable = Annotated[T | None, BeforeValidator(_given), Field(json_schema_extra=_without_null)]
"""A key that may be left out, and not be empty. `value:` with nothing behind it is null to YAML:
taken for absent it would let in every credential, or leave a backend unasked.
"""


def _seconds(value: object) -> object:
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(value))
    msg = "expected a duration like 500ms, 30s, 5m or 1h30m"
    raise ValueError(msg)


Duration = Annotated[
    float,
    BeforeValidator(
        _seconds, json_schema_input_type=Annotated[str, Field(pattern=f"^{_DURATION.pattern}$")]
    ),
]
"""Written like `30s`; held in seconds."""


def _written(value: object) -> object:
    if isinstance(value, int | bytes):  # `10` would be 0.0.0.10, and `true` 0.0.0.1
        raise PydanticCustomError("ip_any_network", "expected an address, or a network")  # noqa: EM101
    return value


Network = Annotated[IPvAnyNetwork, BeforeValidator(_written)]
"""An address is a network of one."""
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=MAX_NAME_CHARS),
]
VariableName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=MAX_NAME_CHARS)
]
HeaderName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9!#$%&'*+.^`|~-]+$", max_length=MAX_NAME_CHARS, to_lower=True
    ),
]
"""A field name (RFC 9110 section 5.1), in lower case, without underscores: `X_User` and `X-User`
become one name in CGI and WSGI."""
ParameterName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXPRESSION_CHARS)]
"""CEL, or a template when it contains `{{`."""
Template = Annotated[str, StringConstraints(max_length=MAX_EXPRESSION_CHARS)]
DialectName = Literal["generic", "nginx", "ingress-nginx", "traefik", "caddy", "envoy", "haproxy"]
"""How proxies ask. All but the generic one are also the first segment of a path (`dialects/`)."""

Variables = Annotated[dict[VariableName, Source], Field(max_length=MAX_ITEMS)]


def _each_header_once(value: object) -> object:
    if isinstance(value, dict):
        names = [name.lower() for name in value if isinstance(name, str)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            msg = f"the header {twice!r} stands here twice: small and capital letters are the same"
            raise ValueError(msg)
    return value


Copied = Annotated[
    dict[HeaderName, Template | None],
    Field(max_length=MAX_ITEMS),
    BeforeValidator(_each_header_once),
]
"""Headers: null copies the client's own, text is a template."""
