"""`gk doctor`: what this machine can do."""

from __future__ import annotations

import typer

from gatekeeper import bootstrap
from gatekeeper.entrypoints.cli.caller import Exit, explaining, show
from gatekeeper.entrypoints.cli.tables import plain
from gatekeeper.entrypoints.commands import Json
from gatekeeper.entrypoints.output import MachineReport, SandboxTier


def doctor(as_json: Json = False) -> None:
    """Say which sandboxes this machine has for terminals, and what does not hold in each.

    It starts one of each kind, for an instant. Exit code 1 where none works: a runner
    would not start here.

    Example:  gk doctor
    """
    with explaining():
        tiers = tuple(
            SandboxTier(name=tier.name, works=tier.works, detail=tier.detail, gaps=tuple(tier.gaps))
            for tier in bootstrap.report_sandboxes()
        )
        report = MachineReport(terminals=any(tier.works for tier in tiers), sandboxes=tiers)
        if as_json:
            show(report)
        else:
            _tell(report)
        raise typer.Exit(Exit.OK if report.terminals else Exit.ERROR)


def _tell(report: MachineReport) -> None:
    for tier in report.sandboxes:
        typer.echo(plain(f"{tier.name:<12} {'ok' if tier.works else 'no'}: {tier.detail}"))
        for gap in tier.gaps:
            typer.echo(plain(f"{'':<12} but {gap}"))
    typer.echo(
        "terminals can run here" if report.terminals else "no terminal can run here, and none will"
    )
