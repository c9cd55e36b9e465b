"""`gk policy explain`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Final

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.asking import Reason, Role, Ttl
from gatekeeper.entrypoints.cli.caller import Exit, calling, show
from gatekeeper.entrypoints.cli.tables import plain
from gatekeeper.entrypoints.commands import Json, group
from gatekeeper.wire.sessions import ExplainRequest

app = group(no_args_is_help=True, help="Check, test and explain the policy.")


class Plane(StrEnum):
    """What is asked for."""

    DATABASES = "databases"
    TERMINALS = "terminals"


TARGET: Final = "Where to; of terminals, the runner: local."
PLANE: Final = "What is asked for; of terminals, the role is a profile."


@app.command()
def explain(
    target: Annotated[str, typer.Option("--target", "-t", help=TARGET)],
    role: Role,
    plane: Annotated[Plane, typer.Option(help=PLANE)] = Plane.DATABASES,
    ttl: Ttl = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Say what the policy would answer you, and why; nothing is asked for.

    Exit code 4 when it would be denied.

    Example:  gk policy explain --target pg-local --role app_admin --ttl 1h

    Example:  gk policy explain --plane terminals --target local --role shell
    """
    with calling() as caller, caller.client() as client:
        body = ExplainRequest(plane=plane.value, target=target, role=role, ttl=ttl, reason=reason)
        found = client.call(operations.explain_policy(body))
        if caller.wants_json(as_json):
            show(found)
        elif found.allowed:
            typer.echo(f"allowed by {found.grant!r}: {found.ttl}, at most {found.max_ttl}")
        else:
            typer.echo("needs an approval" if found.needs_approval else "denied")
            for reason_ in found.reasons:
                typer.echo(plain(f"  - {reason_}"))
            for alternative in found.alternatives:
                typer.echo(plain(f"  try: {alternative}"))
        sys.exit(Exit.OK if found.allowed else Exit.DENIED)
