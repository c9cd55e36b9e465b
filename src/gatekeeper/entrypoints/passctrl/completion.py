"""`passctrl completion`: a script for the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from gatekeeper.entrypoints.cli.completion import print_script


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish")],
) -> None:
    """Print a completion script for `passctrl`.

    Example:  source <(passctrl completion bash)

    Example:  source <(passctrl completion zsh)     (after compinit)

    Example:  gk forwardauth completion fish > ~/.config/fish/completions/passctrl.fish
    """
    print_script(shell, program="passctrl")
