"""`gk policy validate` and `gk policy test`: on files, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatekeeper.entrypoints.cli.caller import show
from gatekeeper.entrypoints.output import PolicyCase, PolicyProblems, PolicyTestReport
from gatekeeper.platform.policy import PolicyError, load_policy, run_cases
from gatekeeper.platform.policy import validate as find_problems
from gatekeeper.platform.policy.files import CASES_SUFFIX

Place = Annotated[Path, typer.Argument(help="Policy file or folder.", exists=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def validate(
    path: Place,
    target: Annotated[
        list[str] | None, typer.Option(help="A target that exists. Repeatable.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role that exists. Repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Check a policy: every problem at once, names that nothing answers to, rules without effect.

    Exit code 1 when there is something to mend.

    Example:  gk policy validate policy.yaml --target pg-local --role app_read
    """
    try:
        policy = load_policy(path)
        problems = [
            f"{f.rule}: {f.what}"
            for f in find_problems(policy, targets=target or None, roles=role or None)
        ]
        count = len(policy.grants) + len(policy.denies)
    except PolicyError as error:
        problems, count = list(error.problems), 0
    if as_json:
        show(PolicyProblems(valid=not problems, problems=tuple(problems)))
    else:
        typer.echo("\n".join(problems) or f"{count} rules, nothing to mend")
    raise typer.Exit(1 if problems else 0)


def run_tests(path: Place, as_json: Json = False) -> None:
    """Run the tables of cases kept beside a policy (files that end in .test.yaml).

    Example:  gk policy test policies/
    """
    tables = sorted((path if path.is_dir() else path.parent).glob(f"*{CASES_SUFFIX}"))
    try:
        policy = load_policy(path)
        results = [result for table in tables for result in run_cases(policy, table)]
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
