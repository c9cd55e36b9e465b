"""Policy files: one YAML file or a folder of them, strict, with every problem at once."""

from __future__ import annotations

import difflib
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
    from pathlib import Path

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
Words = Annotated[frozenset[str], Field(min_length=1, max_length=1000)]


class _File(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, arbitrary_types_allowed=True
    )


class WhoFile(_File):
    groups: Words | None = None
    emails: Words | None = None
    subjects: Words | None = None
    issuers: Words | None = None
    kinds: (
        Annotated[frozenset[Literal["human", "workload", "service"]], Field(min_length=1)] | None
    ) = None

    def who(self) -> policy.Who:
        given = {key: value for key, value in self if value is not None}
        return policy.Who(**given)


class ApprovalFile(_File):
    count: Annotated[int, Field(ge=1, le=10)] = 1
    from_: WhoFile = Field(alias="from")
    expires: Annotated[Ttl, Field(json_schema_extra={"default": "24h"})] = timedelta(hours=24)


class GrantFile(_File):
    name: Name
    who: WhoFile
    plane: Literal["databases", "forwardauth", "terminals"]
    targets: Annotated[tuple[Glob, ...], Field(min_length=1)]
    roles: Annotated[tuple[Glob, ...], Field(min_length=1)]
    max_ttl: Ttl
    when: When | None = None
    approval: ApprovalFile | None = None


class DenyFile(_File):
    name: Name
    who: WhoFile = WhoFile()
    plane: Literal["databases", "forwardauth", "terminals"]
    targets: Annotated[tuple[Glob, ...], Field(min_length=1)] = ("*",)
    roles: Annotated[tuple[Glob, ...], Field(min_length=1)] = ("*",)
    when: When | None = None


class LimitsFile(_File):
    sessions_per_principal: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 30


class PolicyFile(_File):
    """One policy file, as its JSON Schema describes it."""

    api_version: Literal["gatekeeper/v1"]
    kind: Literal["Policy"]
    grants: Annotated[tuple[GrantFile, ...], Field(max_length=MAX_RULES)] = ()
    denies: Annotated[tuple[DenyFile, ...], Field(max_length=MAX_RULES)] = ()
    limits: LimitsFile | None = None


def load_policy(path: Path) -> policy.Policy:
    """Read a file, or every `*.yaml` of a folder. Raises `PolicyError`, and nothing else."""
    problems: list[str] = []
    files = [
        (place, read) for place in _places(path) if (read := _read(place, problems)) is not None
    ]
    _refuse_twins(files, problems)
    if problems:
        raise PolicyError(problems)
    return policy.Policy(
        grants=tuple(_grant(grant) for _, file in files for grant in file.grants),
        denies=tuple(_deny(deny) for _, file in files for deny in file.denies),
        limits=_limits(files),
    )


def _places(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix in (".yaml", ".yml") and not file.name.endswith(CASES_SUFFIX)
    )
    if not 0 < len(found) <= MAX_FILES:
        raise PolicyError(
            [f"{path}: expected from 1 to {MAX_FILES} YAML files, found {len(found)}"]
        )
    return found


def _read(path: Path, problems: list[str]) -> PolicyFile | None:
    try:
        node, value = read_yaml(path)
    except InputError as error:
        problems.append(error.detail)
        return None
    try:
        return PolicyFile.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems.extend(_problem(path, node, one) for one in found)
        return None


def read_yaml(path: Path) -> tuple[yaml.Node | None, Any]:
    """Read one YAML document without aliases or duplicate keys, and where its parts stand.

    Raises `InputError` for anything else.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            msg = f"{path}: a file may have at most {MAX_FILE_BYTES} bytes"
            raise InputError(msg)
        text = path.read_text("utf-8")
        node = yaml.compose(text, Loader=_StrictLoader)
        return node, yaml.load(text, Loader=_StrictLoader)  # noqa: S506  # a SafeLoader
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise InputError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or type(error).__name__
        msg = f"{path}{line}: not usable YAML: {what}"
        raise InputError(msg) from error


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


def _problem(path: Path, node: yaml.Node | None, found: Any) -> str:  # noqa: ANN401  # Pydantic's
    where = ".".join(str(part) for part in found["loc"])
    what = found["msg"].removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        what = _unknown_key(found["loc"])
    return f"{path}:{_line(node, found['loc'])}: {where}: {what}"


def _unknown_key(location: tuple[str | int, ...]) -> str:
    key = str(location[-1])
    models = (PolicyFile, GrantFile, DenyFile, WhoFile, LimitsFile, ApprovalFile)
    known = {field.alias or name for model in models for name, field in model.model_fields.items()}
    near = difflib.get_close_matches(key, sorted(known), n=1)
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


def _refuse_twins(files: list[tuple[Path, PolicyFile]], problems: list[str]) -> None:
    seen: dict[str, Path] = {}
    for place, file in files:
        for name in (*(g.name for g in file.grants), *(d.name for d in file.denies)):
            if name in seen:
                problems.append(f"{place}: the name {name!r} is used in {seen[name]} too")
            seen[name] = place
    if sum(file.limits is not None for _, file in files) > 1:
        problems.append("limits: they may stand in one file only")


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
            groups=approval.from_.groups or frozenset(),
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


def _limits(files: list[tuple[Path, PolicyFile]]) -> policy.Limits:
    for _, file in files:
        if file.limits is not None:
            return policy.Limits(
                sessions_per_principal=file.limits.sessions_per_principal,
                requests_per_minute=file.limits.requests_per_minute,
            )
    return policy.Limits()
