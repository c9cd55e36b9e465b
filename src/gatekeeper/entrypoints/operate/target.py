"""`gk target bootstrap`: set a target up, or show what that would do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatekeeper import bootstrap as composition
from gatekeeper.entrypoints.cli.caller import Exit, explaining, fail, note, show
from gatekeeper.entrypoints.commands import Json
from gatekeeper.entrypoints.output import BootstrapReport, BootstrapStep
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        int,
        typer.Option(
            min=1,
            max=composition.MAX_SHARDS,
            help="Owners that share the work; can be raised later.",
        ),
    ] = composition.DEFAULT_SHARDS,
    packs: Annotated[
        Path | None,
        typer.Option(
            help="Folder with your own role packs.", exists=True, file_okay=False, metavar="DIR"
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it.")] = False,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL of every step.")] = False,
    as_json: Json = False,
) -> None:
    """Set a target up: roles, helpers and role packs. Twice is a no-op.

    Without --apply nothing is changed: every step is named. The admin's DSN is read
    from GATEKEEPER_ADMIN_DSN, so that it is in no argument list; it needs a superuser,
    or a role with CREATEROLE that may grant pg_signal_backend and pg_read_all_stats.

    Example:  GATEKEEPER_ADMIN_DSN=... gk target bootstrap --database app --owner app_owner

    Example:  gk target bootstrap --database app --owner app_owner --packs ./packs --apply
    """
    with explaining():
        text = os.environ.get(ADMIN_VARIABLE)
        if not text:
            fail(f"{ADMIN_VARIABLE} is not set: it holds the admin's DSN", Exit.USAGE)
        setup = composition.Setup(
            databases=tuple(database),
            owners=tuple(owner),
            schemas=tuple(schema or ["public"]),
            shards=shards,
            packs=packs,
        )
        steps, dsn = asyncio.run(_carry_out(Secret(text), setup, apply=apply))
        if as_json:
            _show_json(steps, dsn, applied=apply, with_sql=sql)
        else:
            _show(steps, dsn, applied=apply, with_sql=sql)


async def _carry_out(
    admin: Secret, setup: composition.Setup, *, apply: bool
) -> tuple[Sequence[composition.Step], Secret | None]:
    """Return the steps, and the DSN of the agent's login when it had no password before."""
    steps = await composition.bootstrap_target(admin, setup, apply=apply)
    if not apply or await composition.agent_can_log_in(admin, setup.databases[0]):
        return steps, None
    return steps, await composition.new_agent_dsn(admin, setup.databases[0])


def _show(
    steps: Sequence[composition.Step], dsn: Secret | None, *, applied: bool, with_sql: bool
) -> None:
    for step in steps:
        typer.echo(f"{'done' if applied else 'would do'}  {step.database}: {step.name}")
        if with_sql:
            typer.echo(step.text)
    if not steps:
        note("nothing to do")
    elif not applied:
        note("nothing was changed; --apply does it, --sql shows every statement")
    if dsn is not None:
        note("the agent logs in with this DSN, shown once:")
        typer.echo(dsn.reveal())


def _show_json(
    steps: Sequence[composition.Step], dsn: Secret | None, *, applied: bool, with_sql: bool
) -> None:
    show(
        BootstrapReport(
            applied=applied,
            steps=tuple(
                BootstrapStep(
                    database=step.database, name=step.name, sql=step.text if with_sql else None
                )
                for step in steps
            ),
            agent_dsn=None if dsn is None else dsn.reveal(),
        )
    )
