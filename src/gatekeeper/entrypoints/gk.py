"""`gk`: the root of the command line. A command's module is imported when it is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from gatekeeper import __version__
from gatekeeper.entrypoints.cli.options import Chosen, chosen

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command is, and what `gk --help` says of it."""

    place: str
    help: str


COMMANDS: Final = {
    "login": Lazy("cli.login:login", "Log in at the server's identity provider."),
    "logout": Lazy("cli.login:logout", "Forget the tokens for the server."),
    "whoami": Lazy("cli.login:whoami", "Show who you are to the server."),
    "session": Lazy("cli.session:app", "Ask for, see, extend and end database logins."),
    "exec": Lazy("cli.run:run", "Run a command with a login that ends with it."),
    "target": Lazy("target:app", "See, set up and check targets."),
    "policy": Lazy("policy:app", "Check, test and explain the policy."),
    "audit": Lazy("cli.audit:app", "Read, export and verify the evidence."),
    "reconcile": Lazy("cli.reconcile:reconcile", "Compare targets with the store, and repair."),
    "up": Lazy("operate.up:up", "Run everything on this machine, to work with."),
    "demo": Lazy("operate.demo:demo", "Show the main job in half a minute."),
    "serve": Lazy("operate.serve:app", "Run one process of Gatekeeper."),
    "migrate": Lazy("operate.migrate:migrate", "Bring the store's tables up to date."),
    "completion": Lazy("cli.completion:completion", "Print a completion script for a shell."),
}


class Root(TyperGroup):
    """Knows its commands by name, and loads each when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  # Typer's own Click
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002  # as above
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002  # as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


def load(name: str) -> Any:  # noqa: ANN401  # a command of Typer's own Click
    """Import a command."""
    module, _, attribute = COMMANDS[name].place.partition(":")
    found: Any = getattr(importlib.import_module(f"gatekeeper.entrypoints.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        single = _typer()
        single.command(name)(found)
        found = single
    command = get_command(found)
    command.name = name
    return command


def _typer(**options: Any) -> typer.Typer:  # noqa: ANN401  # Typer's own
    return typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options
    )


root = _typer(cls=Root, context_settings=CONTEXT, no_args_is_help=True)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"gk {__version__}")
        raise typer.Exit


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
    version: Annotated[  # noqa: ARG001  # its callback answers
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda value: _version(wanted=value),
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
    """  # noqa: D301  # \b keeps the lines as they are
    chosen.set(Chosen(profile=profile, server=server, verbose=verbose))


def main() -> None:
    """Run `gk`."""
    root(prog_name="gk")
