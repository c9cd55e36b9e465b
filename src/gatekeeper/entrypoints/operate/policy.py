"""`gk policy validate` and `gk policy test`: on files, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatekeeper.entrypoints.cli.caller import show
from gatekeeper.entrypoints.commands import Json
from gatekeeper.entrypoints.output import (
    PolicyCase,
    PolicyProblems,
    PolicyTestReport,
)
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.policy import (
    CaseResult,
    Names,
    PolicyError,
    load_policy,
    load_with_places,
    run_cases,
)
from gatekeeper.platform.policy import validate as find
from gatekeeper.platform.policy.files import CASES_SUFFIX

if TYPE_CHECKING:
    from gatekeeper.kernel.policy import Policy

Place = Annotated[Path, typer.Argument(help="Policy file or folder.", exists=True)]


def validate(
    path: Place,
    target: Annotated[
        list[str] | None, typer.Option(help="A target that exists. Repeatable.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role that exists. Repeatable.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="A group that exists. Repeatable.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of a control plane: its targets and roles exist.", exists=True),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a policy: unknown names, rules without effect, and grants that give too much.

    Everything is told at once, with file, line and what to do. Exit code 1 when there is
    something to mend.

    Example:  gk policy validate policy.yaml --target pg-local --role app_read

    Example:  gk policy validate policies/ --config control-plane.toml
    """
    problems, findings = _check(path, target or [], role or [], group or [], config)
    if as_json:
        show(PolicyProblems(valid=not problems, problems=tuple(problems), findings=tuple(findings)))
    else:
        typer.echo("\n".join(problems) or "nothing to mend")
    raise typer.Exit(1 if problems else 0)


def _check(
    path: Path, targets: list[str], roles: list[str], groups: list[str], config: Path | None
) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        if config is not None:
            more_targets, more_roles = _names_in(config)
            targets, roles = [*targets, *more_targets], [*roles, *more_roles]
        loaded = load_with_places(path)
    except PolicyError as error:
        return list(error.problems), []
    except InputError as error:
        return [error.detail], []
    names = Names(targets=_known(targets), roles=_known(roles), groups=_known(groups))
    problems, findings = [], []
    for found in find(loaded.policy, names):
        place = loaded.places[found.rule]
        problems.append(f"{place}: {found.rule}: {found.what}; {found.fix} [{found.code}]")
        findings.append(
            {
                "code": found.code.value,
                "rule": found.rule,
                "file": str(place.file),
                "line": place.line,
                "what": found.what,
                "fix": found.fix,
            }
        )
    return problems, findings


def _names_in(config: Path) -> tuple[list[str], list[str]]:
    from gatekeeper import bootstrap  # noqa: PLC0415  # takes a while, and is seldom needed

    targets = bootstrap.load_settings(bootstrap.ControlPlaneSettings, config).targets
    return [one.name for one in targets], [role for one in targets for role in one.roles]


def _known(names: list[str]) -> frozenset[str] | None:
    return frozenset(names) if names else None


def run_tests(path: Place, as_json: Json = False) -> None:
    """Run the tables of cases kept beside a policy (files that end in .test.yaml).

    Example:  gk policy test policies/
    """
    tables = sorted((path if path.is_dir() else path.parent).glob(f"*{CASES_SUFFIX}"))
    try:
        results = _run_all(load_policy(path), tables)
    except PolicyError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(1) from error
    failed = [result for result in results if result.problem is not None]
    if as_json:
        cases = tuple(
            PolicyCase(name=r.name, passed=r.problem is None, problem=r.problem) for r in results
        )
        show(PolicyTestReport(passed=not failed, cases=cases))
    else:
        for result in failed:
            typer.echo(f"FAILED {result.name}: {result.problem}")
        typer.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    raise typer.Exit(1 if failed or not results else 0)


def _run_all(policy: Policy, tables: list[Path]) -> list[CaseResult]:
    results: list[CaseResult] = []
    problems: list[str] = []
    for table in tables:
        try:
            results += run_cases(policy, table)
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(problems)
    return results
