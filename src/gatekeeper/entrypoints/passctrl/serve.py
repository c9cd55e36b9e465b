"""`passctrl serve`: answer proxies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gatekeeper import bootstrap
from gatekeeper.kernel.errors import InputError


def serve(
    config: Annotated[Path, typer.Argument(help="Configuration: YAML, TOML or JSON.")],
) -> None:
    """Answer proxies until told to stop, and take each new configuration that is whole.

    Broken definitions are left out at the start, and endpoints that need them answer 503;
    `passctrl check` says what is wrong. A broken server block ends the process.

    Example:  gk forwardauth serve config.yaml

    Example:  PASSCTRL_SERVER__LISTEN__PORT=9090 gk forwardauth serve config.yaml
    """
    try:
        status = bootstrap.serve_forwardauth(config, os.environ)
    except InputError as error:
        typer.echo(f"error: {error.detail}", err=True)
        typer.echo("passctrl check says the same without serving", err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"error: the address cannot be had: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(status)
