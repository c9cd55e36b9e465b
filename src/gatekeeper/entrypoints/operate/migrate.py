"""`gk migrate`: bring the store's tables up to date."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from gatekeeper import bootstrap
from gatekeeper.entrypoints.cli.caller import Exit, explaining, fail, show_values
from gatekeeper.platform.postgres import migrations


def migrate(
    config: Annotated[
        Path, typer.Option(help="Settings of the control plane.", exists=True, dir_okay=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring the store's tables up to date. Twice in a row, the second does nothing.

    Example:  gk migrate --config control-plane.toml
    """
    with explaining():
        settings = bootstrap.load_settings(bootstrap.ControlPlaneSettings, config)
        try:
            applied = asyncio.run(migrations.migrate(settings.store_dsn))
        except psycopg.OperationalError:
            fail("the store does not answer; is store_dsn right?", Exit.UNREACHABLE)
        if as_json:
            show_values({"applied": applied})
        else:
            typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
