"""The two base models of everything on the wire.

What we are sent is strict: an unknown field is an error, and so is a value of another type
(`"plan": 0` is not a no). What we read back from a server is tolerant, so an older client
outlives a newer server. A response is built when it is first used: a command of `gk` uses two
of them, and building all takes longer than it runs.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel


class Request(BaseModel):
    """Sent to us: strict, frozen, camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True
    )


class Response(BaseModel):
    """Sent by us: frozen, camelCase, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        defer_build=True,
    )


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE: Final = BeforeValidator(_whole)
"""JSON knows one kind of number: 5.0 is 5 (JSON Schema, section 6.1.1 of its validation)."""
