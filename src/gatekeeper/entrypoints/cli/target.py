"""`gk target list` and `gk target doctor`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.caller import Exit, calling, show
from gatekeeper.entrypoints.cli.completion import complete_target
from gatekeeper.entrypoints.cli.tables import plain, table
from gatekeeper.entrypoints.commands import Json, group

app = group(no_args_is_help=True, help="See, set up and check targets.")


@app.command("list")
def list_targets(as_json: Json = False) -> None:
    """List targets, and what you may have at each.

    Example:  gk target list
    """
    with calling() as caller, caller.client() as client:
        found = client.call(operations.list_targets())
        if caller.wants_json(as_json):
            show(found)
            return
        table(
            ("TARGET", "ROLE", "ALLOWED", "UP TO", "WHY NOT"),
            [
                (
                    target.target, role.role, "allowed" if role.allowed else "denied",
                    role.max_ttl or "-", "; ".join(role.reasons),
                )
                for target in found.items
                for role in target.roles
            ],
        )  # fmt: skip


@app.command()
def doctor(
    target: Annotated[str, typer.Argument(autocompletion=complete_target)],
    everything: Annotated[bool, typer.Option("--all", help="What is well, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check everything a target needs; say the exact statement that mends each failure.

    For operators. Exit code 1 when something failed.

    Example:  gk target doctor pg-local
    """
    with calling() as caller, caller.client() as client:
        report = client.call(operations.target_doctor(target))
        bad = [check for check in report.checks if check.status != "ok"]
        if caller.wants_json(as_json):
            show(report)
        else:
            for check in report.checks if everything else bad:
                typer.echo(plain(f"{check.status:<8} {check.name}: {check.detail}"))
                if check.fix:
                    typer.echo(plain(f"         {check.fix}", lines=True))
            typer.echo(f"{len(report.checks) - len(bad)} of {len(report.checks)} checks are well")
        sys.exit(Exit.ERROR if any(c.status == "failed" for c in bad) else Exit.OK)
