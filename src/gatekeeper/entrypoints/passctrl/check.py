"""`passctrl check`: everything that is wrong with a configuration, at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gatekeeper import bootstrap
from gatekeeper.entrypoints.commands import Json
from gatekeeper.entrypoints.output import ForwardAuthCheck, ForwardAuthProblem


def check(
    config: Annotated[Path, typer.Argument(help="Configuration: YAML, TOML or JSON.")],
    as_json: Json = False,
) -> None:
    """Check a configuration as serving it would: every problem at once, with file, line and key.

    The environment counts as it does when serving: PASSCTRL_SERVER__..., and the variables and
    secrets that the configuration names. Exit code 1 when there is something to mend.

    Example:  passctrl check config.yaml

    Example:  gk forwardauth check config.yaml --json
    """
    problems = bootstrap.check_configuration(config, os.environ)
    if as_json:
        told = tuple(
            ForwardAuthProblem(place=p.place, key=p.key, message=p.message, near=p.near)
            for p in problems
        )
        found = ForwardAuthCheck(valid=not problems, problems=told)
        typer.echo(found.model_dump_json(by_alias=True, indent=2, exclude_none=True))
    elif problems:
        typer.echo("\n".join(map(str, problems)), err=True)
    else:
        typer.echo("nothing to mend")
    raise typer.Exit(1 if problems else 0)
