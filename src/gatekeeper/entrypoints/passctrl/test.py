"""`passctrl test`: tables of cases, without a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gatekeeper import bootstrap
from gatekeeper.entrypoints.cli.tables import plain
from gatekeeper.entrypoints.commands import Json
from gatekeeper.kernel.errors import InputError
from gatekeeper.wire.forwardauth import RuleCasesReport


def run_tables(
    config: Annotated[Path, typer.Argument(help="Configuration: YAML, TOML or JSON.")],
    tables: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Tables of cases; by default those kept beside the rules.", exists=True
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run tables of cases: files that end in .test.yaml, .test.json or .test.toml.

    Each case is a request and what it is to be answered. Nothing is called: backends, tokens and
    the time stand in the case. A reload runs the same cases and takes nothing when one fails.
    Exit code: 0 all pass, 1 one fails or there is none, 2 input that cannot be used.

    Example:  passctrl test config.yaml

    Example:  gk forwardauth test config.yaml rules/readers.test.yaml --json
    """
    try:
        results = bootstrap.run_tables(config, os.environ, tables or [])
    except InputError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(2) from error
    failed = [result for result in results if not result.passed]
    if as_json:
        report = RuleCasesReport(passed=bool(results) and not failed, cases=results)
        typer.echo(report.model_dump_json(by_alias=True, indent=2, exclude_none=True))
    elif not results:
        typer.echo(f"no case to run: {config.stem}.test.yaml beside {config} is read", err=True)
    else:
        for result in failed:
            typer.echo(f"FAILED {result.file}: {plain(result.name)}: {plain(result.problem or '')}")
        typer.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    raise typer.Exit(1 if failed or not results else 0)
