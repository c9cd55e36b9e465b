"""What a policy file may say: its models, which its JSON Schema is made from."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from gatekeeper.kernel import policy
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.ttl import parse_ttl
from gatekeeper.platform.policy.conditions import CelCondition, compile_condition

MAX_RULES: Final = 5_000


def _ttl(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        msg = "expected a duration such as 15m or 4h"
        raise ValueError(msg)  # noqa: TRY004  # Pydantic reads ValueError
    try:
        return parse_ttl(value)
    except InputError as error:
        raise ValueError(error.detail.removeprefix("ttl: ")) from error


def _condition(value: object) -> CelCondition:
    if not isinstance(value, str):
        msg = "expected a CEL expression as text"
        raise ValueError(msg)  # noqa: TRY004  # Pydantic reads ValueError
    return compile_condition(value)


Ttl = Annotated[timedelta, BeforeValidator(_ttl, json_schema_input_type=str)]
When = Annotated[Any, BeforeValidator(_condition, json_schema_input_type=str)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]
Glob = Annotated[str, Field(min_length=1, max_length=128)]
Globs = Annotated[tuple[Glob, ...], Field(min_length=1)]
Plane = Literal["databases", "forwardauth", "terminals"]
Words = Annotated[frozenset[str], Field(min_length=1, max_length=1000)]


class FileModel(BaseModel):
    """Strict, frozen, camelCase."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, arbitrary_types_allowed=True
    )


class WhoFile(FileModel):
    """Whom a rule is about. Every field that is given must match, in any of its values."""

    groups: Words | None = Field(None, description="Groups, as the issuer names them.")
    emails: Words | None = Field(None, description="Addresses that the issuer has verified.")
    subjects: Words | None = Field(
        None, description="Subjects (`sub`); give `issuers` too, each issuer has its own."
    )
    issuers: Words | None = Field(None, description="Addresses of the issuers of tokens.")
    kinds: (
        Annotated[frozenset[Literal["human", "workload", "service"]], Field(min_length=1)] | None
    ) = Field(None, description="People, CI jobs and other programs.")

    def who(self) -> policy.Who:
        given = {key: value for key, value in self if value is not None}
        return policy.Who(**given)


class ApproversFile(FileModel):
    """Who may agree."""

    groups: Words = Field(description="Members of any of these groups may agree.")


class ApprovalFile(FileModel):
    """Ask others before a session is made. Read, but approvals cannot be given yet."""

    count: Annotated[int, Field(ge=1, le=10)] = Field(1, description="How many must agree.")
    from_: ApproversFile = Field(alias="from", description="Who may agree.")
    expires: Ttl = Field(
        timedelta(hours=24),
        description="How long the request waits for them.",
        json_schema_extra={"default": "24h"},
    )


class GrantFile(FileModel):
    """Allows sessions. Without a grant nothing is allowed."""

    name: Name = Field(description="Named in decisions and evidence; unique over all files.")
    who: WhoFile = Field(description="Whom it is for.")
    plane: Plane = Field(
        description="What it opens: `databases`, or `terminals`; `forwardauth` has no effect yet."
    )
    targets: Globs = Field(description="Names of targets; `*` stands for any characters.")
    roles: Globs = Field(description="Names of roles; `*` stands for any characters.")
    max_ttl: Ttl = Field(description="The longest session, and what one gets who asks for none.")
    when: When | None = Field(None, description="A CEL expression that must be true.")
    approval: ApprovalFile | None = Field(None, description="Ask others first.")


class DenyFile(FileModel):
    """Forbids sessions, whatever the grants say."""

    name: Name = Field(description="Named in decisions and evidence; unique over all files.")
    who: WhoFile = Field(WhoFile(), description="Whom it is for; everybody when left out.")
    plane: Plane = Field(description="What it closes: as in a grant.")
    targets: Globs = Field(("*",), description="Names of targets; all when left out.")
    roles: Globs = Field(("*",), description="Names of roles; all when left out.")
    when: When | None = Field(
        None, description="A CEL expression; the deny holds while it is true or fails."
    )


class LimitsFile(FileModel):
    """How much one caller may do."""

    sessions_per_principal: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        5, description="Open sessions at a time."
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        30, description="Sessions asked for or extended in a minute; other calls follow from it."
    )


class PolicyFile(FileModel):
    """One policy file, as its JSON Schema describes it."""

    api_version: Literal["gatekeeper/v1"] = Field(description="The version of this format.")
    kind: Literal["Policy"] = Field(description="What this file is.")
    grants: Annotated[tuple[GrantFile, ...], Field(max_length=MAX_RULES)] = Field(
        (), description="What is allowed."
    )
    denies: Annotated[tuple[DenyFile, ...], Field(max_length=MAX_RULES)] = Field(
        (), description="What is forbidden all the same."
    )
    limits: LimitsFile | None = Field(None, description="In one file of a folder at most.")
