"""`gk migrate`: bring the store's tables up to date."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from gatekeeper import bootstrap
from gatekeeper.entrypoints.cli.caller import Exit, explaining, fail, show
from gatekeeper.entrypoints.commands import Json
from gatekeeper.entrypoints.output import MigrateReport
from gatekeeper.kernel.secret import Secret

OWNER_VARIABLE = "GATEKEEPER_OWNER_DSN"


def migrate(
    config: Annotated[
        Path, typer.Option(help="Settings of the control plane.", exists=True, dir_okay=False)
    ],
    as_json: Json = False,
) -> None:
    """Bring the store's tables up to date. Twice in a row, the second does nothing.

    The DSN of the tables' owner is read from GATEKEEPER_OWNER_DSN, so that it is in no
    settings file and no argument list. The login of store_dsn is made if it is missing,
    and may add to the evidence but never change it. Without GATEKEEPER_OWNER_DSN the
    login of store_dsn itself owns the tables: for trying things out only.

    Example:  GATEKEEPER_OWNER_DSN=... gk migrate --config control-plane.toml
    """
    owner = os.environ.get(OWNER_VARIABLE)
    with explaining():
        settings = bootstrap.load_settings(bootstrap.ControlPlaneSettings, config)
        try:
            applied = asyncio.run(
                bootstrap.migrate_store(Secret(owner), settings.store_dsn)
                if owner
                else bootstrap.migrate_store(settings.store_dsn, None)
            )
        except psycopg.OperationalError:
            fail("the store does not answer; is store_dsn right?", Exit.UNREACHABLE)
        if as_json:
            show(MigrateReport(applied=tuple(applied)))
        else:
            typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
