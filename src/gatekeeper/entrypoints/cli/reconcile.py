"""`gk reconcile`: compare targets with the store."""

from __future__ import annotations

from typing import Annotated

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.caller import Exit, calling, note, show
from gatekeeper.entrypoints.cli.completion import complete_target
from gatekeeper.entrypoints.cli.tables import table
from gatekeeper.entrypoints.commands import Json
from gatekeeper.wire.sessions import ReconcileReport, ReconcileRequest


def reconcile(
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done.")] = False,
    target: Annotated[
        str | None, typer.Option(help="Only this one.", autocompletion=complete_target)
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare every target with the store, and repair what differs. For operators.

    Only logins that Gatekeeper made are ever touched. Exit code 1 when a target could not be
    compared, or a difference not be repaired yet.

    Example:  gk reconcile --plan

    Example:  gk reconcile --target pg-local
    """
    with calling() as caller, caller.client() as client:
        report = client.call(operations.reconcile(ReconcileRequest(target=target, plan=plan)))
        if caller.wants_json(as_json):
            show(report)
        else:
            _tell(report)
        if report.unseen or any(item.problem is not None for item in report.items):
            raise typer.Exit(Exit.ERROR)


def _tell(report: ReconcileReport) -> None:
    for target in report.unseen:
        note(f"{target.target} could not be compared: {target.message} ({target.code})")
    if not report.items:
        note("nothing else differs" if report.unseen else "nothing differs")
        return
    table(
        ("TARGET", "LOGIN", "KIND", "WHAT", "ACTION"),
        [(i.target, i.username, i.kind, i.problem or i.detail, i.action) for i in report.items],
    )
    note(_conclusion(report))


def _conclusion(report: ReconcileReport) -> str:
    if not report.applied:
        return "nothing was changed; leave --plan away to repair"
    still = sum(item.problem is not None for item in report.items)
    return f"{still} not repaired yet: see WHAT, then run this again" if still else "done"
