"""A request that is told instead of arriving, and answers that were recorded instead of asked for.

For `/explain`, `passctrl explain` and the tables of `passctrl test`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator

from gatekeeper.forwardauth.config.base import MAX_ITEMS, DialectName, Name, Strict, VariableName

MAX_TEXT_CHARS = 65_536
MAX_CASES = 2_000
"""Of one table."""
CLIENT = "203.0.113.7"
"""Who asks when nobody is named (an address of RFC 5737, for documentation)."""

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)]
HeaderText = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]*$", max_length=MAX_TEXT_CHARS)]
Headers = Annotated[
    dict[HeaderText, HeaderText | list[HeaderText]],
    Field(max_length=MAX_ITEMS),
]
"""A list: the header stands once for each of its values."""


def _moment(value: object) -> object:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
"""RFC 3339; JSON and quoted YAML have it as text."""


class RecordedRequest(Strict):
    """A request as its client makes it."""

    method: Annotated[str, StringConstraints(min_length=1, max_length=32)] = "GET"
    url: Annotated[str, StringConstraints(min_length=1, max_length=16_384)]
    """Absolute: `https://app.example/path?query`."""
    headers: Headers = {}
    client: str = CLIENT
    """Its address."""


class RecordedAnswer(Strict):
    """What a backend answered. Without `error` it is an answer of one page."""

    url: Text
    """As it is called; without a query it is the answer to any query."""
    method: str | None = None
    """Absent: any."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    headers: dict[HeaderText, HeaderText] = {}
    body: Any = None
    """JSON."""
    body_text: Text | None = None
    """The body as it is sent, when it is no JSON."""
    error: str | None = None
    """Why there is no answer."""

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body is not None and self.body_text is not None:
            msg = "give body or bodyText, not both"
            raise ValueError(msg)
        return self


class RecordedSession(Strict):
    """A live Gatekeeper session of the caller."""

    id: str = "session"
    target: str
    role: str
    expires_at: str = ""


class Recorded(Strict):
    """Answers from outside. What is not here is not to be had."""

    backends: Annotated[list[RecordedAnswer], Field(max_length=MAX_ITEMS)] = []
    """The first that fits is the answer, however often it is asked for."""
    tokens: dict[Name, dict[str, Any]] = {}
    """By issuer of `server.issuers`: the claims of the request's token, taken as verified."""
    sessions: Annotated[list[RecordedSession], Field(max_length=MAX_ITEMS)] = []


class Question(Recorded):
    """What `/explain` is asked."""

    endpoint: Name
    dialect: DialectName = "generic"
    request: RecordedRequest | Text
    """Or its text, as RFC 9112 has it."""
    live: bool = False
    """Ask the backends and issuers that no recorded answer fits. They see a real call."""


class Expected(Strict):
    """How a case is to end. What is not named may be anything."""

    outcome: Literal["pass", "fail", "error"]
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    reason: Text | None = None
    """A text that the reason contains."""
    headers: dict[HeaderText, HeaderText | None] = {}
    """Of the answer, by name in any case; null: there is none."""
    location: Text | None = None
    exports: dict[Name, dict[VariableName, Any]] = {}
    """By rule: variables that it exports."""


class Case(Recorded):
    """One request, and how it is to end."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    endpoint: Name
    dialect: DialectName = "generic"
    request: RecordedRequest | Text
    now: Moment = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    expect: Expected


class Cases(Strict):
    """A table of cases."""

    cases: Annotated[list[Case], Field(min_length=1, max_length=MAX_CASES)]
