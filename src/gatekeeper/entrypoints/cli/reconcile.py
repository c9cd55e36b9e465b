"""`gk reconcile`: compare targets with the store."""

from __future__ import annotations

from typing import Annotated

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.caller import calling, note, show
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

    Only logins that Gatekeeper made are ever touched.

    Example:  gk reconcile --plan

    Example:  gk reconcile --target pg-local
    """
    with calling() as caller, caller.client() as client:
        report = client.call(operations.reconcile(ReconcileRequest(target=target, plan=plan)))
        if caller.wants_json(as_json):
            show(report)
            return
        if not report.items:
            note("nothing differs")
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
