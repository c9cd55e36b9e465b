"""Shell completion: the scripts, and live values for options. Silent when anything fails."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from gatekeeper.entrypoints.commands import Chosen, chosen, complete_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatekeeper.client.api import Client

SHELLS: Final = ("bash", "zsh", "fish")
PATIENCE_SECONDS: Final = 1.5
"""Somebody has pressed a key and waits."""


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish")],
) -> None:
    """Print a completion script.

    Example:  source <(gk completion bash)

    Example:  source <(gk completion zsh)     (after compinit)

    Example:  gk completion fish > ~/.config/fish/completions/gk.fish
    """
    print_script(shell, program="gk")


def print_script(shell: str, *, program: str) -> None:
    """Print what makes a shell ask a program of ours for completion."""
    if shell not in SHELLS:
        typer.echo(f"error: no script for {shell!r}; there are {', '.join(SHELLS)}", err=True)
        raise typer.Exit(2)
    asks = complete_variable(program)
    typer.echo(get_completion_script(prog_name=program, complete_var=asks, shell=shell))


def complete_target(ctx: typer.Context, incomplete: str) -> list[str]:
    return _live(ctx, incomplete, _targets)


def complete_role(ctx: typer.Context, incomplete: str) -> list[str]:
    target = ctx.params.get("target")
    return _live(ctx, incomplete, lambda client: _roles(client, target))


def complete_session(ctx: typer.Context, incomplete: str) -> list[str]:
    return _live(ctx, incomplete, _sessions)


def complete_open_session(ctx: typer.Context, incomplete: str) -> list[str]:
    return _live(ctx, incomplete, _open_sessions)


def complete_profile(ctx: typer.Context, incomplete: str) -> list[str]:
    return _live(ctx, incomplete, _profiles)


def complete_terminal(ctx: typer.Context, incomplete: str) -> list[str]:
    return _live(ctx, incomplete, _terminals)


def complete_open_terminal(ctx: typer.Context, incomplete: str) -> list[str]:
    return _live(ctx, incomplete, _open_terminals)


def _live(ctx: typer.Context, incomplete: str, ask: Callable[[Client], Iterable[str]]) -> list[str]:
    with contextlib.suppress(Exception, SystemExit):
        from gatekeeper.entrypoints.cli.caller import Caller  # noqa: PLC0415  # slow

        caller = Caller(_chosen(ctx))
        with caller.client(patience=PATIENCE_SECONDS) as client:
            return sorted({text for text in ask(client) if text.startswith(incomplete)})
    return []


def _chosen(ctx: typer.Context) -> Chosen:
    """Return what stands on the line: the root's own function, which notes it, has not run."""
    after = chosen.get(Chosen())
    before = ctx.find_root().params
    return replace(
        after,
        profile=after.profile or before.get("profile"),
        server=after.server or before.get("server"),
    )


def _targets(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    return (item.target for item in client.call(operations.list_targets()).items)


def _roles(client: Client, target: str | None) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    return (
        item.role
        for item in client.call(operations.list_roles()).items
        if item.allowed and target in {None, item.target}
    )


def _sessions(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    page = client.call(operations.list_sessions(mine=True))
    return (item.session_id for item in page.items)


def _open_sessions(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    page = client.call(operations.list_sessions(mine=True, statuses=["ready"]))
    return (item.session_id for item in page.items)


def _profiles(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    found = client.call(operations.list_profiles()).items
    return (item.profile for item in found if item.allowed)


def _terminals(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    page = client.call(operations.list_terminals(mine=True))
    return (item.terminal_id for item in page.items)


def _open_terminals(client: Client) -> Iterable[str]:
    from gatekeeper.client import operations  # noqa: PLC0415  # slow

    page = client.call(operations.list_terminals(mine=True, statuses=["ready"]))
    return (item.terminal_id for item in page.items)
