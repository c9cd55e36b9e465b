"""One rule: which credentials it takes, what it asks a backend, when it passes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from gatekeeper.forwardauth.config.base import (
    MAX_ITEMS,
    Copied,
    Duration,
    HeaderName,
    Name,
    ParameterName,
    Source,
    Strict,
    Template,
    Variables,
)
from gatekeeper.kernel.secret import Secret

Value = Annotated[list[Secret], Field(min_length=1, max_length=MAX_ITEMS)] | Secret
"""A literal, `/an RE2 pattern/`, or a list of them: any of them may fit."""


class BasicMatch(Strict):
    """HTTP Basic (RFC 7617). Without constraints any user and password do."""

    type: Literal["basic"]
    username: Value | None = None
    password: Value | None = None


class BearerMatch(Strict):
    """A bearer token (RFC 6750)."""

    type: Literal["bearer"]
    value: Value | None = None


class HeaderMatch(Strict):
    """A header the endpoint allows."""

    type: Literal["header"]
    name: HeaderName
    value: Value | None = None


class QueryMatch(Strict):
    """A query parameter the endpoint allows."""

    type: Literal["query"]
    name: ParameterName
    value: Value | None = None


class CookieMatch(Strict):
    """A cookie the endpoint allows."""

    type: Literal["cookie"]
    name: ParameterName
    value: Value | None = None


class JwtMatch(Strict):
    """A bearer token that is a JSON Web Token of an issuer in `server.issuers`."""

    type: Literal["jwt"]
    issuer: Name


class NoneMatch(Strict):
    """Anybody, also without a credential."""

    type: Literal["none"]


Match = Annotated[
    BasicMatch | BearerMatch | HeaderMatch | QueryMatch | CookieMatch | JwtMatch | NoneMatch,
    Field(discriminator="type"),
]


class ForwardBasic(Strict):
    type: Literal["basic"]
    user: Template
    password: Template


class ForwardBearer(Strict):
    type: Literal["bearer"]
    token: Template


class ForwardHeader(Strict):
    type: Literal["header"]
    name: HeaderName
    value: Template


class ForwardQuery(Strict):
    type: Literal["query"]
    name: ParameterName
    value: Template


class ForwardNone(Strict):
    """Nothing is forwarded."""

    type: Literal["none"]


Forward = Annotated[
    ForwardBasic | ForwardBearer | ForwardHeader | ForwardQuery | ForwardNone,
    Field(discriminator="type"),
]


class AuthGroup(Strict):
    """All of `match` must hold. `forwardAs` says what the backend gets; absent: the same again."""

    match: Annotated[list[Match], Field(min_length=1, max_length=MAX_ITEMS)]
    forward_as: Annotated[list[Forward], Field(min_length=1, max_length=MAX_ITEMS)] | None = None

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


class Pagination(Strict):
    """Follow `Link: <…>; rel="next"` (RFC 8288), to the same origin only."""

    type: Literal["link-header"]
    max_pages: Annotated[int, Field(ge=1, le=100)] = 1


class Introspection(Strict):
    """Ask whether a token is active (RFC 7662). Its answer is `backend.body`."""

    token: Template = "{{ auth.input.bearer.token }}"
    token_type_hint: str | None = None
    client_id: Template | None = None
    client_secret: Template | None = None


class BackendApi(Strict):
    """A call whose answer the conditions judge."""

    url: Source
    """Scheme, host and port are literal; each `{{ … }}` after them is percent-encoded."""
    method: Annotated[str, Field(pattern=r"^[A-Z]{1,20}$")] = "GET"
    headers: Copied = {}
    query: Annotated[dict[ParameterName, Template | None], Field(max_length=MAX_ITEMS)] = {}
    body: Template | None = None
    body_file: str | None = None
    forward_proxy_headers: bool = False
    accepted_statuses: Annotated[
        list[Annotated[int, Field(ge=100, le=599)]], Field(min_length=1)
    ] = [200]
    pagination: Pagination | None = None
    introspection: Introspection | None = None
    timeout: Duration | None = None
    retries: Annotated[int, Field(ge=0, le=5)] = 0

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body is not None and self.body_file is not None:
            msg = "give body or bodyFile, not both"
            raise ValueError(msg)
        if self.introspection is not None and (self.body or self.body_file or self.pagination):
            msg = "introspection makes its own body and has no pages"
            raise ValueError(msg)
        if "authorization" in self.headers:
            msg = "authorization is written by forwardAs, not by headers"
            raise ValueError(msg)
        return self


Condition = Annotated[list[Source], Field(max_length=MAX_ITEMS)]


class Conditions(Strict):
    """CEL. Order: error, fail, pass; any error of evaluation is an error outcome."""

    when_all: Condition = Field(default=[], validation_alias=AliasChoices("whenAll", "pass"))
    """All must be true for the rule to pass."""
    fail_when: Condition = Field(default=[], validation_alias=AliasChoices("failWhen", "fail"))
    """The first that is true fails the rule."""
    error_when: Condition = Field(default=[], validation_alias=AliasChoices("errorWhen", "error"))
    """The first that is true makes the outcome an error."""


class Exports(Strict):
    """What a rule tells later rules (`rules.<name>.variables`) and the response (`response`)."""

    variables: Variables = {}


class Responses(Strict):
    pass_: Exports = Field(default=Exports(), alias="pass")
    fail: Exports = Exports()
    error: Exports = Exports()


class RuleTtl(Strict):
    pass_: Duration | None = Field(default=None, alias="pass")
    fail: Duration | None = None


class RuleCache(Strict):
    """How long this rule's results are kept. Errors never are."""

    ttl: RuleTtl = RuleTtl()
    follow_cache_control: bool = False
    """Obey the backend's Cache-Control (RFC 9111) instead of `ttl`."""


class Rule(Strict):
    """One rule of a chain."""

    description: str = ""
    auth: Annotated[list[AuthGroup], Field(max_length=MAX_ITEMS)] = []
    """Groups: the first whose matchers all hold wins. None given: no credential is asked for."""
    backend_api: BackendApi | None = None
    conditions: Conditions = Conditions()
    variables: Variables = {}
    responses: Responses = Responses()
    cache: RuleCache = RuleCache()
