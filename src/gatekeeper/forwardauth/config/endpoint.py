"""An endpoint: what a proxy asks about, who is let in, which rules decide, how it is answered."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gatekeeper.forwardauth.config.base import (
    MAX_ITEMS,
    Copied,
    Duration,
    HeaderName,
    Name,
    Network,
    Omittable,
    ParameterName,
    Strict,
    Template,
    Variables,
)


class Allow(Strict):
    """Which credentials are looked at. Others are not seen by any rule."""

    authorization: list[Literal["basic", "bearer"]] = []
    """Schemes of the Authorization header."""
    header: Annotated[list[HeaderName], Field(max_length=MAX_ITEMS)] = []
    """Names of headers."""
    query: Annotated[list[ParameterName], Field(max_length=MAX_ITEMS)] = []
    """Names of query parameters."""
    cookie: Annotated[list[ParameterName], Field(max_length=MAX_ITEMS)] = []
    """Names of cookies."""
    none: bool = False
    """Anybody is admitted, and the rules decide."""


class Challenge(Strict):
    """What `WWW-Authenticate` asks for (RFC 9110 section 11.6.1)."""

    type: Literal["basic", "bearer"]
    """The scheme."""
    realm: Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,200}$")]
    """What the client is asked to log in to."""
    charset: Omittable[Literal["UTF-8"]] = None
    """Of user and password."""

    @model_validator(mode="after")
    def _charset_is_for_basic(self) -> Self:
        if self.charset is not None and self.type != "basic":
            msg = "charset belongs to a basic challenge (RFC 7617)"
            raise ValueError(msg)
        return self


class Redirect(Strict):
    """Send the client elsewhere, to a login page for instance."""

    to: Template
    """A template of a whole URL, or of a path on the same host. Values are encoded by a filter:
    `{{ request.rawPath | urlencode }}`."""
    hosts: Annotated[
        list[Annotated[str, StringConstraints(min_length=1)]], Field(max_length=MAX_ITEMS)
    ] = []
    """Hosts a whole URL may lead to, compared exactly; others are an error."""
    status: Literal[302, 303, 307] = 302
    """The status of the redirect."""


class Refusing(Strict):
    """How a request is answered that is not let through."""

    status: Omittable[Annotated[int, Field(ge=400, le=599)]] = None
    """The status of the answer."""
    headers: Copied = {}
    """Headers of the answer."""
    body: Omittable[Template] = None
    """The body."""
    body_file: Omittable[str] = None
    """A file of the templates folder that has the body."""
    redirect: Omittable[Redirect] = None
    """Send the client there instead."""

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body is not None and self.body_file is not None:
            msg = "give body or bodyFile, not both"
            raise ValueError(msg)
        return self


class Passing(Strict):
    """How a request is answered that is let through: the answer to the proxy is always 200 without
    a body (nginx drops connections otherwise, Envoy takes nothing else).
    """

    elsewhere: ClassVar = dict.fromkeys(
        ("status", "body", "bodyFile"), "what is let through is answered with 200 and no body"
    )

    headers: Copied = {}
    """Identity headers for the proxy to hand on. Each is sent, also when it is empty."""


class ResponsePolicy(Strict):
    """How each outcome of the rules is answered."""

    pass_: Passing = Field(default=Passing(), alias="pass")
    fail: Refusing = Refusing()
    error: Refusing = Refusing()


class Authentication(Strict):
    """Who is let in to be judged by the rules."""

    required: bool = True
    """A request without one of these credentials is refused before any rule is asked."""
    allow: Allow
    challenge: Omittable[Challenge] = None
    """Absent: no challenge is sent."""
    response: Refusing = Refusing()
    """How a request without a credential is answered; 401 by default."""

    @model_validator(mode="after")
    def _something_is_allowed(self) -> Self:
        allow = self.allow
        if not (allow.authorization or allow.header or allow.query or allow.cookie or allow.none):
            msg = "allow at least one of authorization, header, query, cookie, none"
            raise ValueError(msg)
        return self


class ForwardProxyPolicy(Strict):
    """Whose word about the original request is taken. By default nobody's."""

    trusted_proxy_ips: list[Network | Literal["unix"]] = Field(
        default=[], alias="trustedProxyIPs", max_length=MAX_ITEMS
    )
    """Addresses and networks; `unix` for a socket in the file system."""
    development_mode: bool = False
    """Strip what an untrusted peer says instead of refusing it. Never in production."""

    @model_validator(mode="after")
    def _not_everybody(self) -> Self:
        named = self.trusted_proxy_ips
        v4 = collapse_addresses(net for net in named if isinstance(net, IPv4Network))
        v6 = collapse_addresses(net for net in named if isinstance(net, IPv6Network))
        widest = {net.prefixlen for net in v4} | {net.prefixlen for net in v6}
        if 0 in widest:  # two halves are the whole too
            msg = "trusting every address trusts every client: name your proxies"
            raise ValueError(msg)
        return self


class ForwardRequestPolicy(Strict):
    """What of the original request rules may hand on."""

    elsewhere: ClassVar = dict.fromkeys(
        ("headers", "query", "custom"), "rules read all of request.headers and request.query"
    )

    forward_proxy_headers: bool = False
    """Make X-Forwarded-* of the original request available as `forward.headers`."""
    encoded_slashes: Literal["refuse", "keep"] = "refuse"
    """`%2F` in a path: refuse the request, or keep it as it is."""


class RuleReference(Strict):
    """A rule of the chain."""

    name: Name
    """The name of the rule."""


class EndpointCache(Strict):
    """How long an endpoint's results are kept."""

    elsewhere: ClassVar = {"cacheResultDuration": "write resultTTL"}

    result_ttl: Omittable[Duration] = Field(default=None, alias="resultTTL")
    """How long the result of the whole chain is kept."""


class Endpoint(Strict):
    """What a proxy asks about."""

    elsewhere: ClassVar = {"cacheResultDuration": "write cache.resultTTL"}

    description: str = ""
    """For people."""
    authentication: Authentication
    forward_proxy_policy: ForwardProxyPolicy = ForwardProxyPolicy()
    forward_request_policy: ForwardRequestPolicy = ForwardRequestPolicy()
    variables: Variables = {}
    """Values for its rules: `vars.global.<name>`."""
    rules: Annotated[list[RuleReference], Field(min_length=1, max_length=MAX_ITEMS)]
    """In order; each must pass for the next to be asked. Without one nothing could be decided."""
    response_policy: ResponsePolicy = ResponsePolicy()
    cache: EndpointCache = EndpointCache()
