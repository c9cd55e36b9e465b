"""The values a decision is made of. Those made for every request are tuples: they cost least."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")


class Outcome(StrEnum):
    """How a rule, or a chain of rules, ended. Only `PASS` lets a request through."""

    PASS = "pass"  # noqa: S105  # an outcome
    FAIL = "fail"
    ERROR = "error"


class RawRequest(NamedTuple):
    """What arrived at the decision port, before anything of it is believed.

    Header names are in lower case, as sent otherwise, in the order they came.
    """

    method: str
    target: bytes
    """What follows the mount (`dialects.Mount.rest`)."""
    headers: list[tuple[bytes, bytes]]
    peer: str
    """The address of whoever connected; `unix` for a socket in the file system."""


class OriginalRequest(NamedTuple):
    """The request the client made to the proxy, as the proxy's dialect tells it.

    `path` is decoded exactly once; `raw_path` and `raw_query` are as they were sent. `fields`
    are the client's headers, without those by which proxies speak of a request: names in lower
    case, repeated ones joined by ", " (RFC 9110 section 5.3; cookies by "; "). `repeated` has
    each value of those that stood more than once.
    """

    method: str
    scheme: str
    host: str
    port: int | None
    path: str
    raw_path: str
    raw_query: str
    fields: Mapping[bytes, bytes]
    repeated: Mapping[bytes, tuple[bytes, ...]]
    client: str
    """The address of the client: the first hop from the right that is no trusted proxy."""
    proxied: bool
    """Whether a trusted proxy told of it."""


class Rejected(NamedTuple):
    """A request that is not judged at all: what it says cannot be relied on."""

    status: int
    reason: str
    """For logs and `/explain`, never for clients."""


class Answer(NamedTuple):
    """What is to be said, before a dialect puts it into what its proxy can carry.

    Header names are in lower case. `location` is set when the client is to be sent elsewhere.
    """

    outcome: Outcome
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    location: str | None = None
    reason: str = ""
    """For logs and `/explain`, never for clients."""
    origin: str = "fresh"
    """fresh, or where the result of the chain was kept."""


class Reply(NamedTuple):
    """What goes back to the proxy."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Credential(NamedTuple):
    """A credential that the request carries."""

    kind: str
    """basic, bearer, header, query, cookie or none."""
    name: str = ""
    """Of the header (in lower case), parameter or cookie."""
    value: str = ""
    """The token, or the value; for basic the password."""
    user: str = ""


Read = tuple[str, ...]
"""Something an expression reads: a name of the vocabulary, then keys: ("request.headers", "x")."""


@dataclass(slots=True)
class Scope:
    """What expressions see of one request: names of the vocabulary and their values.

    Mutable, and alive for one request alone. `prepared` belongs to the language in use.
    """

    values: dict[str, Any]
    prepared: Any = None

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401  # whatever an expression gave
        self.values[name] = value
        self.prepared = None


class RuleResult(NamedTuple):
    """How a rule, or a whole chain, ended, and what later rules and the response see of it.

    `exports` has plain JSON values alone, so that a kept result is the same as a fresh one.
    """

    outcome: Outcome
    reason: str
    exports: Mapping[str, Mapping[str, Any]]
    """By rule: its exported variables."""
    until: float = float("inf")
    """The moment after which it says nothing any more, in seconds of Unix time."""
    recognised: bool = True
    """False: it failed because no rule so far knew any credential of the request."""
    origin: str = "fresh"
    """fresh, or where it was kept: memory, shared, flight (another request made it meanwhile)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRequest:
    """A call a rule makes. `url` is whole and escaped; header names are in lower case."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    accepted: frozenset[int] = frozenset({200})
    max_pages: int = 1
    timeout: float = 10.0
    """Seconds, for all pages and retries together."""
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendPage:
    """One page of a backend's answer."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: Any
    body_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendResponse:
    """What a backend answered: its last page, and all of them.

    `error` says why there is no answer; then `status` is 0, unless there is one whose body is
    not the JSON it says it is. `body` is the parsed JSON, None when the answer is none.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    body_text: str = ""
    pages: tuple[BackendPage, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSession:
    """A Gatekeeper session the caller holds at this moment."""

    id: str
    target: str
    role: str
    expires_at: str
    """RFC 3339, UTC."""


# What a decision may need from outside. It yields one of these and is sent the result.


@dataclass(frozen=True, slots=True)
class CallBackend:
    """Is sent a `BackendResponse`."""

    request: BackendRequest


@dataclass(frozen=True, slots=True)
class VerifyToken:
    """Is sent the claims of a token of this issuer (a mapping), or a `Rejected`."""

    issuer: str
    token: str


@dataclass(frozen=True, slots=True)
class FindSessions:
    """Is sent the live sessions of whom this token is about (a tuple), or a `Rejected`."""

    token: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Asks for a kept result. Is sent a `RuleResult`, or None: then this evaluation makes it.

    Whoever is sent None for a key leads, and others who ask for it wait until the leader has
    settled, so that many at once cost one evaluation.
    """

    key: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """Ends a claim: the result is kept until its moment, unless that is past.

    Is sent None. A leader that ends without settling has its claim ended for it.
    """

    key: bytes
    result: RuleResult


Effect = CallBackend | VerifyToken | FindSessions | Claim | Settle
Steps = Generator[Effect, Any, T]

NOTHING: Final[Mapping[str, Any]] = {}


class Step(NamedTuple):
    """What one agent did, for `/explain`, which redacts what is secret in `detail`."""

    agent: str
    subject: str
    result: str
    detail: Mapping[str, Any] = NOTHING


class Decided(NamedTuple):
    """A decision as it is logged and counted."""

    endpoint: str
    """Its name in the configuration; empty when there is none of that name."""
    dialect: str
    outcome: Outcome
    status: int
    reason: str
    origin: str
    seconds: float
    request_id: str
    generation: int


class SkippedDefinition(NamedTuple):
    """A rule or endpoint of a configuration that is not in use, and why."""

    kind: str
    """rule, endpoint, or document: a whole file that cannot be read."""
    name: str
    reason: str
    sources: tuple[str, ...] = ()
