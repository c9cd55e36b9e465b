"""Which credentials a rule takes, and which of them its backend gets."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gatekeeper.forwardauth.config.base import (
    MAX_ITEMS,
    HeaderName,
    Name,
    Omittable,
    ParameterName,
    Strict,
    Template,
)
from gatekeeper.kernel.secret import Secret

Value = Annotated[list[Secret], Field(min_length=1, max_length=MAX_ITEMS)] | Secret
"""A literal, `/an RE2 pattern/`, or a list of them: any of them may fit."""


class BasicMatch(Strict):
    """HTTP Basic (RFC 7617). Without constraints any user and password do."""

    type: Literal["basic"]
    username: Omittable[Value] = None
    """The user."""
    password: Omittable[Value] = None
    """The password."""


class BearerMatch(Strict):
    """A bearer token (RFC 6750)."""

    type: Literal["bearer"]
    value: Omittable[Value] = None
    """The token."""


class HeaderMatch(Strict):
    """A header the endpoint allows."""

    type: Literal["header"]
    name: HeaderName
    """The name of the header."""
    value: Omittable[Value] = None
    """Its value."""


class QueryMatch(Strict):
    """A query parameter the endpoint allows."""

    type: Literal["query"]
    name: ParameterName
    """The name of the parameter."""
    value: Omittable[Value] = None
    """Its value."""


class CookieMatch(Strict):
    """A cookie the endpoint allows."""

    type: Literal["cookie"]
    name: ParameterName
    """The name of the cookie."""
    value: Omittable[Value] = None
    """Its value."""


class JwtMatch(Strict):
    """A bearer token that is a JSON Web Token of an issuer in `server.issuers`."""

    type: Literal["jwt"]
    issuer: Name
    """Its name in `server.issuers`."""


class NoneMatch(Strict):
    """Anybody, also without a credential."""

    type: Literal["none"]


Match = Annotated[
    BasicMatch | BearerMatch | HeaderMatch | QueryMatch | CookieMatch | JwtMatch | NoneMatch,
    Field(discriminator="type"),
]


class ForwardBasic(Strict):
    """An Authorization header with user and password."""

    type: Literal["basic"]
    user: Template
    """The user."""
    password: Template
    """The password."""


class ForwardBearer(Strict):
    """An Authorization header with a bearer token."""

    type: Literal["bearer"]
    token: Template
    """The token."""


class ForwardHeader(Strict):
    """A header."""

    type: Literal["header"]
    name: HeaderName
    """The name of the header."""
    value: Template
    """Its value."""


class ForwardQuery(Strict):
    """A query parameter."""

    type: Literal["query"]
    name: ParameterName
    """The name of the parameter."""
    value: Template
    """Its value."""


class ForwardNone(Strict):
    """Nothing is forwarded."""

    type: Literal["none"]


Forward = Annotated[
    ForwardBasic | ForwardBearer | ForwardHeader | ForwardQuery | ForwardNone,
    Field(discriminator="type"),
]


Forwards = Annotated[list[Forward], Field(min_length=1, max_length=MAX_ITEMS)]


class AuthGroup(Strict):
    """All of `match` must hold. `forwardAs` says what the backend gets; absent: the same again."""

    match: Annotated[list[Match], Field(min_length=1, max_length=MAX_ITEMS)]
    """Credentials, all of which the request has."""
    forward_as: Omittable[Forwards] = None
    """Credentials for the backend."""

    @model_validator(mode="after")
    def _none_stands_alone(self) -> Self:
        if len(self.match) > 1 and any(one.type == "none" for one in self.match):
            msg = "a matcher of type none stands alone in its group"
            raise ValueError(msg)
        forwards = self.forward_as or []
        if len(forwards) > 1 and any(one.type == "none" for one in forwards):
            msg = "a forward of type none stands alone"
            raise ValueError(msg)
        targets = [_target(one) for one in forwards]
        if len(targets) != len(set(targets)):
            msg = "two forwards write the same header or parameter"
            raise ValueError(msg)
        return self


def _target(forward: Forward) -> tuple[str, str]:
    """Name what a forward writes: each outbound header and parameter has one owner."""
    if isinstance(forward, ForwardQuery):
        return ("query", forward.name)
    if isinstance(forward, ForwardHeader):
        return ("header", forward.name)
    return ("header", "authorization")
