"""Policy files: one YAML file or a folder of them, strict, with every problem at once."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from gatekeeper.kernel import policy
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.ttl import parse_ttl
from gatekeeper.platform.policy.conditions import CelCondition, compile_condition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

MAX_FILE_BYTES: Final = 1_048_576
MAX_FILES: Final = 500
MAX_RULES: Final = 5_000
CASES_SUFFIX: Final = ".test.yaml"


class PolicyError(InputError):
    """A policy cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the policy cannot be used:\n" + "\n".join(f"  {p}" for p in problems))


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
    plane: Plane = Field(description="What it opens; only `databases` has an effect yet.")
    targets: Globs = Field(description="Names of targets; `*` stands for any characters.")
    roles: Globs = Field(description="Names of roles; `*` stands for any characters.")
    max_ttl: Ttl = Field(description="The longest session, and what one gets who asks for none.")
    when: When | None = Field(None, description="A CEL expression that must be true.")
    approval: ApprovalFile | None = Field(None, description="Ask others first.")


class DenyFile(FileModel):
    """Forbids sessions, whatever the grants say."""

    name: Name = Field(description="Named in decisions and evidence; unique over all files.")
    who: WhoFile = Field(WhoFile(), description="Whom it is for; everybody when left out.")
    plane: Plane = Field(description="What it closes; only `databases` has an effect yet.")
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


_MODELS: Final = (
    PolicyFile, GrantFile, DenyFile, WhoFile, LimitsFile, ApprovalFile, ApproversFile,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule stands."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPolicy:
    """A policy, and where each of its rules stands, by the rule's name."""

    policy: policy.Policy
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """One file that was read."""

    path: Path
    node: yaml.Node | None
    content: PolicyFile

    def place(self, *location: str | int) -> Place:
        return Place(self.path, _line(self.node, location))

    def rules(self) -> Iterator[tuple[str, Place]]:
        for number, grant in enumerate(self.content.grants):
            yield grant.name, self.place("grants", number, "name")
        for number, deny in enumerate(self.content.denies):
            yield deny.name, self.place("denies", number, "name")


def load_policy(path: Path) -> policy.Policy:
    """Read a file, or every `*.yaml` of a folder. Raises `PolicyError`, and nothing else."""
    return load_with_places(path).policy


def load_with_places(path: Path) -> LoadedPolicy:
    """Read a policy and keep where its rules stand. Raises `PolicyError`, and nothing else."""
    problems: list[str] = []
    files = [read for place in _files(path) if (read := _read(place, problems)) is not None]
    places = _places(files, problems)
    limits = [file for file in files if file.content.limits is not None]
    problems += [
        f"{second.place('limits')}: limits: they stand in {limits[0].path} too; keep one"
        for second in limits[1:]
    ]
    if problems:
        raise PolicyError(problems)
    return LoadedPolicy(
        policy=policy.Policy(
            grants=tuple(_grant(grant) for file in files for grant in file.content.grants),
            denies=tuple(_deny(deny) for file in files for deny in file.content.denies),
            limits=_limits(limits[0].content.limits if limits else None),
        ),
        places=places,
    )


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        found = sorted(
            file
            for file in path.iterdir()
            if file.suffix in (".yaml", ".yml") and not file.name.endswith(CASES_SUFFIX)
        )
    except OSError as error:
        raise PolicyError([f"{path}: {error.strerror}"]) from error
    if not 0 < len(found) <= MAX_FILES:
        raise PolicyError(
            [f"{path}: expected from 1 to {MAX_FILES} YAML files, found {len(found)}"]
        )
    return found


def _read(path: Path, problems: list[str]) -> _Read | None:
    try:
        node, value = read_yaml(path)
    except InputError as error:
        problems.append(error.detail)
        return None
    try:
        return _Read(path=path, node=node, content=PolicyFile.model_validate(value))
    except ValidationError as error:
        problems.extend(problems_of(path, node, error, _MODELS))
        return None


def read_yaml(path: Path) -> tuple[yaml.Node | None, Any]:
    """Read one YAML document without aliases or duplicate keys, and where its parts stand.

    Raises `InputError` for anything else.
    """
    try:
        loader = _StrictLoader(_read_text(path))
        try:
            node = loader.get_single_node()
            return node, None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise InputError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or type(error).__name__
        msg = f"{path}{line}: not usable YAML: {what}"
        raise InputError(msg) from error


def _read_text(path: Path) -> str:
    """Read a whole file; a pipe or a device, which need never end, is none."""
    if not path.is_file():
        path.stat()  # says so itself when there is nothing
        msg = f"{path}: not a file"
        raise InputError(msg)
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        msg = f"{path}: a file may have at most {MAX_FILE_BYTES} bytes"
        raise InputError(msg)
    return data.decode("utf-8")


class _StrictLoader(yaml.SafeLoader):
    """No aliases (they can expand without end), no key twice (the last would win silently)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases are not allowed", event.start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _value in node.value:
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"the key {key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
        return node


def problems_of(
    path: Path, node: yaml.Node | None, error: ValidationError, models: Sequence[type[BaseModel]]
) -> list[str]:
    """Say everything that is wrong with a document of these models, each with its line."""
    return [
        f"{path}:{_line(node, one['loc'])}: {'.'.join(map(str, one['loc']))}: {_what(one, models)}"
        for one in error.errors(include_url=False, include_input=False)
    ]


def _what(found: ErrorDetails, models: Sequence[type[BaseModel]]) -> str:
    if found["type"] != "extra_forbidden":
        return found["msg"].removeprefix("Value error, ")
    known = {field.alias or name for model in models for name, field in model.model_fields.items()}
    near = difflib.get_close_matches(str(found["loc"][-1]), sorted(known), n=1)
    return "this key is not known" + (f"; did you mean {near[0]!r}?" if near else "")


def _line(node: yaml.Node | None, location: tuple[str | int, ...]) -> int:
    """Return the line of the innermost part of a location that exists."""
    line = 1
    for part in location:
        child = _child(node, part)
        if child is None:
            break
        node, line = child
    return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item, item.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    return None


def _places(files: list[_Read], problems: list[str]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for file in files:
        for name, place in file.rules():
            if name in places:
                problems.append(
                    f"{place}: the name {name!r} is used in {places[name]} too; rename one"
                )
            places[name] = place
    return places


def _grant(file: GrantFile) -> policy.Grant:
    approval = file.approval
    return policy.Grant(
        name=file.name,
        who=file.who.who(),
        plane=file.plane,
        targets=file.targets,
        roles=file.roles,
        max_ttl=file.max_ttl,
        when=file.when,
        approval=None
        if approval is None
        else policy.Approval(
            count=approval.count,
            groups=approval.from_.groups,
            expires=approval.expires,
        ),
    )


def _deny(file: DenyFile) -> policy.Deny:
    return policy.Deny(
        name=file.name,
        who=file.who.who(),
        plane=file.plane,
        targets=file.targets,
        roles=file.roles,
        when=file.when,
    )


def _limits(file: LimitsFile | None) -> policy.Limits:
    if file is None:
        return policy.Limits()
    return policy.Limits(
        sessions_per_principal=file.sessions_per_principal,
        requests_per_minute=file.requests_per_minute,
    )
