"""One rule: which credentials it takes, what it asks a backend, when it passes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from gatekeeper.forwardauth.config.base import (
    MAX_ITEMS,
    Copied,
    Duration,
    Omittable,
    ParameterName,
    Source,
    Strict,
    Template,
    Variables,
)
from gatekeeper.forwardauth.config.credentials import AuthGroup


class Pagination(Strict):
    """Follow `Link: <…>; rel="next"` (RFC 8288), to the same origin only."""

    type: Literal["link-header"]
    max_pages: Annotated[int, Field(ge=1, le=100)] = 1
    """Pages that are read at most."""


class Introspection(Strict):
    """Ask whether a token is active (RFC 7662). Its answer is `backend.body`; of a token that is
    not active the rule never passes.
    """

    token: Template = "{{ auth.input.bearer.token }}"
    """The token to ask about."""
    token_type_hint: Omittable[str] = None
    """What kind of token it is, for servers that want to know."""
    client_id: Omittable[Template] = None
    """Who asks."""
    client_secret: Omittable[Template] = None
    """The password of who asks."""


class BackendApi(Strict):
    """A call whose answer the conditions judge."""

    url: Source
    """Scheme, host and port are literal; each `{{ … }}` after them is percent-encoded."""
    method: Annotated[str, Field(pattern=r"^[A-Z]{1,20}$")] = "GET"
    """The method of the call."""
    headers: Copied = {}
    """Headers of the call."""
    query: Annotated[dict[ParameterName, Template | None], Field(max_length=MAX_ITEMS)] = {}
    """Query parameters of the call: null copies the client's own."""
    body: Omittable[Template] = None
    """The body of the call."""
    body_file: Omittable[str] = None
    """A file of the templates folder that has the body."""
    forward_proxy_headers: bool = False
    """Send `forward.headers` too; the endpoint must make them available."""
    accepted_statuses: Annotated[
        list[Annotated[int, Field(ge=100, le=599)]], Field(min_length=1)
    ] = [200]
    """With another the rule does not pass: from 500 on it is an error, below a fail."""
    pagination: Omittable[Pagination] = None
    """Absent: one page is read."""
    introspection: Omittable[Introspection] = None
    """Ask about a token instead of making a body."""
    timeout: Omittable[Duration] = None
    """Of the whole call; absent: `server.backend.timeout`."""
    retries: Annotated[int, Field(ge=0, le=5)] = 0
    """How often a call that failed is tried again."""

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


def _short_names(schema: dict[str, Any]) -> None:
    keys = schema["properties"]
    for short, name in (("pass", "whenAll"), ("fail", "failWhen"), ("error", "errorWhen")):
        keys[short] = {**keys[name], "description": f"Another name of `{name}`."}


class Conditions(Strict):
    """CEL. Order: error, fail, pass; any error of evaluation is an error outcome."""

    model_config = ConfigDict(json_schema_extra=_short_names)

    elsewhere: ClassVar = {"passWhen": "write whenAll"}

    when_all: Condition = Field(default=[], validation_alias=AliasChoices("whenAll", "pass"))
    """All must be true for the rule to pass."""
    fail_when: Condition = Field(default=[], validation_alias=AliasChoices("failWhen", "fail"))
    """The first that is true fails the rule."""
    error_when: Condition = Field(default=[], validation_alias=AliasChoices("errorWhen", "error"))
    """The first that is true makes the outcome an error."""


class Exports(Strict):
    """What a rule tells later rules (`rules.<name>`) and the response (`response`)."""

    elsewhere: ClassVar = dict.fromkeys(
        ("status", "headers", "body", "bodyFile"),
        "a rule exports variables; the endpoint's responsePolicy answers",
    )

    variables: Variables = {}
    """CEL, or templates where they contain `{{`."""


class Responses(Strict):
    """What a rule tells others, by its outcome."""

    pass_: Exports = Field(default=Exports(), alias="pass")
    fail: Exports = Exports()
    error: Exports = Exports()


class RuleTtl(Strict):
    """By outcome; absent: not kept."""

    elsewhere: ClassVar = {"error": "an error is never kept"}

    pass_: Omittable[Duration] = Field(default=None, alias="pass")
    """How long a pass is kept."""
    fail: Omittable[Duration] = None
    """How long a fail is kept."""


class RuleCache(Strict):
    """How long this rule's results are kept. Errors never are."""

    elsewhere: ClassVar = {
        "passTTL": "write ttl.pass",
        "failTTL": "write ttl.fail",
        "errorTTL": "an error is never kept",
        "strict": "everything a rule reads is in the key of what is kept",
        "includeProxyHeaders": "everything a rule reads is in the key of what is kept",
    }

    ttl: RuleTtl = RuleTtl()
    follow_cache_control: bool = False
    """Obey the backend's Cache-Control (RFC 9111) instead of `ttl`."""


class Rule(Strict):
    """One rule of a chain."""

    description: str = ""
    """For people."""
    auth: Annotated[list[AuthGroup], Field(max_length=MAX_ITEMS)] = []
    """Groups: the first whose matchers all hold wins. None given: no credential is asked for."""
    backend_api: Omittable[BackendApi] = None
    """Absent: nothing is called."""
    conditions: Conditions = Conditions()
    variables: Variables = {}
    """Values for this rule alone: `vars.local.<name>`."""
    responses: Responses = Responses()
    cache: RuleCache = RuleCache()
