"""`gk shell`: a terminal that is there for as long as somebody is in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.asking import Reason, Ttl
from gatekeeper.entrypoints.cli.asking_terminal import (
    Bundle,
    BundleHash,
    Command,
    Install,
    Profile,
    Role,
    Target,
    Wanted,
    ask,
    wait_until_ready,
)
from gatekeeper.entrypoints.cli.caller import Exit, calling, fail, note
from gatekeeper.kernel.errors import GatekeeperError

if TYPE_CHECKING:
    from gatekeeper.client.api import Client
    from gatekeeper.entrypoints.cli.console import Console
    from gatekeeper.wire.terminals import TerminalView

NoDetach = Annotated[
    bool, typer.Option("--no-detach", help="Ctrl-] is the command's, as every other key.")
]
Raw = Annotated[
    bool,
    typer.Option("--raw", help="Into a file or pipe: every byte as it is, not text alone."),
]


def shell(
    command: Command = None,
    terminal_profile: Profile = None,
    ttl: Ttl = None,
    reason: Reason = "",
    target: Target = None,
    role: Role = None,
    bundle: Bundle = None,
    sha256: BundleHash = None,
    install: Install = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the terminal running when you leave it.")
    ] = False,
    no_detach: NoDetach = False,
    raw: Raw = False,
) -> None:
    """Open a shell, or run a command, in a sandbox of its own; it ends when you leave it.

    The exit code is the command's. Ctrl-] leaves. What stands in a pipe is typed in.
    With --target and --role the command has a database login, which ends with it.

    Example:  gk shell

    Example:  gk shell --ttl 10m --reason "ticket 42" -- python3

    Example:  gk shell --target pg-local --role app_read -- psql

    Example:  echo 'ls -l' | gk shell
    """
    from gatekeeper.entrypoints.cli.attached import Signals  # noqa: PLC0415  # asyncio is slow
    from gatekeeper.entrypoints.cli.console import DETACH, Console  # noqa: PLC0415  # as above

    console = Console(detach=None if no_detach else DETACH, raw=raw)
    wanted = Wanted(
        profile=terminal_profile,
        command=command or (),
        ttl=ttl,
        reason=reason,
        target=target,
        role=role,
        bundle=bundle,
        sha256=sha256,
        install=install,
        size=console.size(),
    )
    with calling() as caller, caller.client() as client, Signals() as signals:
        view = ask(caller, client, wanted)
        ended = False
        try:
            signals.release()
            view = wait_until_ready(client, view)
            if console.typed_at and not no_detach:
                note(
                    f"{view.terminal_id}: Ctrl-] leaves{' it running' if keep else ' and ends'} it"
                )
            code, ended = _inside(client, view, console)
        finally:
            signals.hold()
            if not ended and not keep:
                _end(client, view)
        if not ended and keep:
            note(f"still there: gk terminal attach {view.terminal_id}")
        sys.exit(code)


def _inside(client: Client, view: TerminalView, console: Console) -> tuple[int, bool]:
    """Follow the terminal; return the exit code, and whether it has ended."""
    from gatekeeper.entrypoints.cli import attached  # noqa: PLC0415  # asyncio is slow
    from gatekeeper.kernel.terminal.term import Mode  # noqa: PLC0415  # as above

    if view.status == "failed" and view.error is not None:
        fail(f"{view.terminal_id}: {view.error.message} ({view.error.code})", Exit.ERROR)
    if view.status != "ready":
        return attached.show_missed(client, view, console), True
    with console:
        outcome = attached.follow(client, view.terminal_id, Mode.WRITE, console=console)
    code = attached.result(client, view.terminal_id, outcome, console)
    return code, outcome.closed is not None or outcome.error is not None


def _end(client: Client, view: TerminalView) -> None:
    try:
        client.call(operations.stop_terminal(view.terminal_id))
    except GatekeeperError as error:
        note(f"could not end {view.terminal_id}: {error.detail}; it ends at its time")
