"""The two base models of everything on the wire.

What we are sent is strict: an unknown field is an error. What we read back from
a server is tolerant, so an older client outlives a newer server.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Request(BaseModel):
    """Sent to us: strict, frozen, camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Response(BaseModel):
    """Sent by us: frozen, camelCase, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )
