"""`gk target bootstrap`: set a target up, or show what that would do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from gatekeeper import bootstrap as composition
from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.kernel.secret import Secret

ADMIN_VARIABLE = "GATEKEEPER_ADMIN_DSN"


def bootstrap(
    database: Annotated[
        list[str], typer.Option(help="Database; the first is the helpers' home. Repeatable.")
    ],
    owner: Annotated[
        list[str], typer.Option(help="Role whose later tables the packs reach. Repeatable.")
    ],
    schema: Annotated[list[str] | None, typer.Option(help="Schema. Repeatable.")] = None,
    shards: Annotated[
        int, typer.Option(min=1, max=64, help="Owners that share the work; can be raised later.")
    ] = composition.DEFAULT_SHARDS,
    packs: Annotated[
        Path | None, typer.Option(help="Folder with your own role packs.", exists=True)
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL of every step.")] = False,
) -> None:
    """Set a target up: roles, helpers and role packs. Twice is a no-op.

    Without --apply nothing is changed: every step is named. The admin's DSN is read
    from GATEKEEPER_ADMIN_DSN, so that it is in no argument list; it needs a superuser,
    or a role with CREATEROLE that may grant pg_signal_backend and pg_read_all_stats.

    Example:  GATEKEEPER_ADMIN_DSN=... gk target bootstrap --database app --owner app_owner

    Example:  gk target bootstrap --database app --owner app_owner --apply
    """
    text = os.environ.get(ADMIN_VARIABLE)
    if not text:
        typer.echo(f"error: {ADMIN_VARIABLE} is not set: it holds the admin's DSN", err=True)
        raise typer.Exit(2)
    setup = composition.Setup(
        databases=tuple(database),
        owners=tuple(owner),
        schemas=tuple(schema or ["public"]),
        shards=shards,
        packs=packs,
    )
    try:
        steps = asyncio.run(composition.bootstrap_target(Secret(text), setup, apply=apply))
        dsn = asyncio.run(_agent_dsn(Secret(text), database[0])) if apply and steps else None
    except GatekeeperError as error:
        typer.echo(f"error: {error.detail}", err=True)
        raise typer.Exit(1) from error
    for step in steps:
        typer.echo(f"{'done   ' if apply else 'would do'} {step.database}: {step.name}")
        if sql:
            typer.echo(step.text)
    if not steps:
        typer.echo("nothing to do")
    if dsn is not None:
        typer.echo("\nThe agent logs in with (shown once):")
        typer.echo(dsn.reveal())


async def _agent_dsn(admin: Secret, database: str) -> Secret:
    return await composition.new_agent_dsn(admin, database)
