"""`gk`: the root of the command line. A command's module is imported when it is used."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer

from gatekeeper.entrypoints.commands import (
    Chosen,
    Lazy,
    chosen,
    group,
    lazy_group,
    load_command,
    print_version,
    run,
)

SHARED: Final = ("profile", "server", "verbose", "timing")
"""Options of the root that may also stand after a command's name."""


COMMANDS: Final = {
    "login": Lazy("cli.login:login", "Log in at the server's identity provider."),
    "logout": Lazy("cli.login:logout", "Forget the tokens for the server."),
    "whoami": Lazy("cli.login:whoami", "Show who you are to the server."),
    "session": Lazy("cli.session:app", "Ask for, see, extend and end database logins."),
    "exec": Lazy("cli.run:run", "Run a command with a login that ends with it."),
    "shell": Lazy("cli.shell:shell", "Open a shell in a sandbox of its own."),
    "terminal": Lazy("cli.terminal:app", "Ask for, see, attach to, share and end terminals."),
    "target": Lazy("target:app", "See, set up and check targets."),
    "policy": Lazy("policy:app", "Check, test and explain the policy."),
    "audit": Lazy("cli.audit:app", "Read, export and verify the evidence."),
    "reconcile": Lazy("cli.reconcile:reconcile", "Compare targets with the store, and repair."),
    "forwardauth": Lazy("passctrl.main:app", "Forward auth: what `passctrl` does, too."),
    "up": Lazy("operate.up:up", "Run everything on this machine, to work with."),
    "demo": Lazy("operate.demo:demo", "Show the main job in half a minute."),
    "serve": Lazy("operate.serve:app", "Run one process of Gatekeeper."),
    "migrate": Lazy("operate.migrate:migrate", "Bring the store's tables up to date."),
    "doctor": Lazy("operate.doctor:doctor", "Say which sandboxes this machine has."),
    "key": Lazy("operate.key:key", "Make a signing key; print its public half."),
    "rotate-tickets": Lazy(
        "operate.rotate_tickets:rotate_tickets", "Make the next key that tickets are signed with."
    ),
    "completion": Lazy("cli.completion:completion", "Print a completion script for a shell."),
}


def load(name: str) -> Any:  # noqa: ANN401  # a command of Typer's own Click
    """Import a command."""
    return load_command(name, COMMANDS[name])


root = group(cls=lazy_group(COMMANDS, shared=SHARED), no_args_is_help=True)


@root.callback()
def options(
    profile: Annotated[
        str | None,
        typer.Option(envvar="GATEKEEPER_PROFILE", help="Profile of the configuration file."),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(help="Address of the control plane, over profile and environment."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say how long it took, and under which id.")
    ] = False,
    timing: Annotated[
        bool,
        typer.Option(
            envvar="GATEKEEPER_TIMING",
            help="Write the duration of the command and of each request to stderr, as JSON lines.",
        ),
    ] = False,
    version: Annotated[  # noqa: ARG001  # its callback answers
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda value: print_version("gk", wanted=value),
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Gatekeeper: the access that is needed, for as long as it is needed, and the proof of it.

    \b
    Examples:
      gk demo                      see it work, in half a minute
      gk up                        run it on this machine
      gk login                     log in
      gk session create --target pg-local --role app_read --ttl 15m --reason "ticket 42"
      gk exec --target pg-local --role app_read -- psql
      gk shell                     a shell in a sandbox, gone when you leave

    Of the options below, --profile, --server, --verbose and --timing may also stand after
    the command that they are for.
    """  # noqa: D301  # \b keeps the lines as they are
    chosen.set(Chosen(profile=profile, server=server, verbose=verbose, timing=timing))


def main() -> None:
    """Run `gk`."""
    # httpx brings a command line of its own, which takes longer to import than all of ours.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: not to be had
    run(root, "gk")
