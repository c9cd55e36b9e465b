"""`gk migrate`: bring the store's tables up to date."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from gatekeeper import bootstrap
from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.kernel.secret import Secret

OWNER_VARIABLE = "GATEKEEPER_OWNER_DSN"


def migrate(
    config: Annotated[Path, typer.Option(help="Settings of the control plane.", exists=True)],
) -> None:
    """Bring the store's tables up to date. Twice in a row, the second does nothing.

    The DSN of the tables' owner is read from GATEKEEPER_OWNER_DSN, so that it is in no
    settings file and no argument list. The login of store_dsn is made if it is missing,
    and may add to the evidence but never change it. Without GATEKEEPER_OWNER_DSN the
    login of store_dsn itself owns the tables: for trying things out only.

    Example:  GATEKEEPER_OWNER_DSN=... gk migrate --config control-plane.toml
    """
    owner = os.environ.get(OWNER_VARIABLE)
    try:
        settings = bootstrap.load_settings(bootstrap.ControlPlaneSettings, config)
        applied = asyncio.run(
            bootstrap.migrate_store(Secret(owner), settings.store_dsn)
            if owner
            else bootstrap.migrate_store(settings.store_dsn, None)
        )
    except GatekeeperError as error:
        typer.echo(f"error: {error.detail}", err=True)
        raise typer.Exit(1) from error
    except psycopg.OperationalError as error:
        typer.echo("error: the store does not answer; is store_dsn right?", err=True)
        raise typer.Exit(6) from error
    typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
