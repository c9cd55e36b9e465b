"""A policy from one YAML file or a folder of them, with every problem at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel import policy
from gatekeeper.platform.policy.documents import PolicyError, read_model
from gatekeeper.platform.policy.format import DenyFile, GrantFile, LimitsFile, PolicyFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gatekeeper.platform.documents import Document

MAX_FILES: Final = 500
CASES_SUFFIX: Final = ".test.yaml"


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

    document: Document
    content: PolicyFile

    def place(self, *location: str | int) -> Place:
        return Place(self.document.path, self.document.line_of(location))

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
        f"{second.place('limits')}: limits: they stand in {limits[0].document.path} too; keep one"
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
        document, content = read_model(path, PolicyFile)
    except PolicyError as error:
        problems.extend(error.problems)
        return None
    return _Read(document=document, content=content)


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
