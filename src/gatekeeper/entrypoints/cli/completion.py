"""Shell completion: the scripts, and live values for options. Silent when anything fails."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatekeeper.client.api import Client

SHELLS: Final = ("bash", "zsh", "fish")


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish")],
) -> None:
    """Print a completion script.

    Example:  source <(gk completion bash)

    Example:  gk completion fish > ~/.config/fish/completions/gk.fish
    """
    if shell not in SHELLS:
        typer.echo(f"error: no script for {shell!r}; there are {', '.join(SHELLS)}", err=True)
        raise typer.Exit(2)
    typer.echo(get_completion_script(prog_name="gk", complete_var="_GK_COMPLETE", shell=shell))


def complete_target(incomplete: str) -> list[str]:
    return _live(incomplete, _targets)


def complete_role(incomplete: str) -> list[str]:
    return _live(incomplete, _roles)


def complete_session(incomplete: str) -> list[str]:
    return _live(incomplete, _sessions)


def _live(incomplete: str, ask: Callable[[Client], Iterable[str]]) -> list[str]:
    with contextlib.suppress(Exception, SystemExit):
        from gatekeeper.entrypoints.cli.caller import Caller  # noqa: PLC0415  # slow
        from gatekeeper.entrypoints.commands import Chosen, chosen  # noqa: PLC0415  # with it

        caller = Caller(chosen.get(Chosen()))
        with caller.client() as client:
            return sorted({text for text in ask(client) if text.startswith(incomplete)})
    return []


def _targets(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    return (item.target for item in client.call(operations.list_targets()).items)


def _roles(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    return (item.role for item in client.call(operations.list_roles()).items if item.allowed)


def _sessions(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    page = client.call(operations.list_sessions(mine=True))
    return (item.session_id for item in page.items)
