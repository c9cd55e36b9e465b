"""`gk migrate`: bring the store's tables up to date."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from gatekeeper import bootstrap
from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.platform.postgres import migrations


def migrate(
    config: Annotated[Path, typer.Option(help="Settings of the control plane.", exists=True)],
) -> None:
    """Bring the store's tables up to date. Twice in a row, the second does nothing.

    Example:  gk migrate --config control-plane.toml
    """
    try:
        settings = bootstrap.load_settings(bootstrap.ControlPlaneSettings, config)
        applied = asyncio.run(migrations.migrate(settings.store_dsn))
    except GatekeeperError as error:
        typer.echo(f"error: {error.detail}", err=True)
        raise typer.Exit(1) from error
    except psycopg.OperationalError as error:
        typer.echo("error: the store does not answer; is store_dsn right?", err=True)
        raise typer.Exit(6) from error
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
