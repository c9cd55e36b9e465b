"""`gk rotate-tickets`: make the next key that tickets are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatekeeper import bootstrap
from gatekeeper.entrypoints.cli.caller import explaining


def rotate_tickets(
    folder: Annotated[
        Path,
        typer.Option(
            help="The control plane's key_folder.", metavar="FOLDER", exists=True, file_okay=False
        ),
    ],
) -> None:
    """Make the next key of tickets, and say from when it signs.

    It is published at once and signs some minutes later, when every gateway knows it; the one
    before stays published until its last ticket is over. Nothing is restarted. Without this
    command a key is replaced after 30 days.

    Example:  gk rotate-tickets --folder keys
    """
    with explaining():
        typer.echo(bootstrap.rotate_ticket_keys(folder).isoformat())
