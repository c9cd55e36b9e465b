"""`gk key`: make a signing key, and print the half of it that others may know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatekeeper.entrypoints.cli.caller import explaining
from gatekeeper.platform.crypto.signing import SigningKey


def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key's file.")],
) -> None:
    """Print the public half of a signing key; make the key where there is none.

    The private half stays in the file, which only its owner can read. What is printed
    goes into the settings of the other side, or to those who verify the evidence.

    Example:  gk key agent.jwk

    Example:  gk key keys/evidence.jwk > gatekeeper.jwk
    """
    with explaining():
        typer.echo(SigningKey.load_or_create(file).public_jwk())
