"""How every command of `gk` looks: plain help, examples as they are typed, shared options."""

from __future__ import annotations

import copy
import errno
import importlib
import os
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]
from typer.core import CompletionItem, TyperGroup  # type: ignore[attr-defined]
from typer.main import get_command

from gatekeeper import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

API_CLIENTS: Final = "gatekeeper.entrypoints.cli."
"""Commands from here take the root's options after their name as well."""
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was given before or after a command: `gk --profile P session list -v`."""

    profile: str | None = None
    server: str | None = None
    verbose: bool = False
    timing: bool = False
    command: str = ""
    """Which one runs: `session create`."""


chosen: ContextVar[Chosen] = ContextVar("chosen")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def group(**options: Any) -> typer.Typer:  # noqa: ANN401  # Typer's own
    """Make a group of commands: no command offers what only the root is to offer."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=CONTEXT,
        **options,
    )


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command is, and what the help of its group says of it."""

    place: str
    help: str


def lazy_group(table: Mapping[str, Lazy], shared: Sequence[str] = ()) -> type[TyperGroup]:
    """Make a kind of group that knows its commands by name, and loads each when it is called.

    `shared` names options of the group that may also stand after a command.
    """

    class Group(TyperGroup):
        def __init__(self, **options: Any) -> None:  # noqa: ANN401  # Typer's own
            super().__init__(**options)
            after = [option for option in self.params if option.name in shared]
            self.commands: Any = _Loading(table, after)

        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002  # Typer's Click
            return list(table)

        def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401  # as above
            if incomplete.startswith("-"):
                return super().shell_complete(ctx, incomplete)
            return [
                CompletionItem(name, help=lazy.help)
                for name, lazy in table.items()
                if name.startswith(incomplete)
            ]

        def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002  # as above
            with formatter.section("Commands"):
                formatter.write_dl([(name, lazy.help) for name, lazy in table.items()])

    return Group


class _Loading(Mapping[str, Any]):
    """Commands by name, each imported when it is asked for."""

    def __init__(self, table: Mapping[str, Lazy], shared: Sequence[Any]) -> None:
        self._table = table
        self._shared = shared

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  # a command of Typer's own Click
        command = load_command(name, self._table[name])
        finish(command, self._shared)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def load_command(name: str, lazy: Lazy) -> Any:  # noqa: ANN401  # a command of Typer's own Click
    """Import a command."""
    module, _, attribute = lazy.place.partition(":")
    found: Any = getattr(importlib.import_module(f"gatekeeper.entrypoints.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        single = group()
        single.command(name)(found)
        found = single
    command = get_command(found)
    command.name = name
    return command


def complete_variable(program: str) -> str:
    """Name what the shell's script sets when it asks what could stand next."""
    return f"_{program.upper()}_COMPLETE"


def print_version(program: str, *, wanted: bool) -> None:
    if wanted:
        typer.echo(f"{program} {__version__}")
        raise typer.Exit


def run(app: typer.Typer, name: str) -> None:
    """Run a command line. Nobody is shown a traceback who did not ask for one."""
    if complete_variable(name) in os.environ:
        completion_init()
    try:
        app(prog_name=name)
    except Exception as error:
        if os.environ.get("GATEKEEPER_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            typer.echo(f"error: {error.strerror}", err=True)
            sys.exit(1)
        typer.echo(
            f"error: this is a defect of {name} ({type(error).__name__}); with GATEKEEPER_DEBUG=1"
            " in the environment it says where",
            err=True,
        )
        sys.exit(1)


def finish(command: Any, shared: Sequence[Any]) -> None:  # noqa: ANN401  # Typer's Click
    """Give a command, and those in it, what all have."""
    if isinstance(command, TyperGroup):
        if not isinstance(command.commands, _Loading):  # those do it when they load
            for inner in command.commands.values():
                finish(inner, shared)
        return
    # The words of a command that is to be run are its own: `gk exec … psql -c 'SELECT 1'`.
    command.allow_interspersed_args = not any(
        param.nargs == -1 and param.metavar == "COMMAND" for param in command.params
    )
    # \b keeps the lines of a paragraph as they are: an example is copied, not read.
    command.help = (command.help or "").replace("Example:", "\b\nExample:")
    if command.callback.__module__.startswith(API_CLIENTS):
        command.params += [_after_the_command(option) for option in shared]


def _after_the_command(option: Any) -> Any:  # noqa: ANN401  # as above
    again = copy.copy(option)
    # The environment was read where the option first stands; here it would win over a flag.
    again.envvar, again.expose_value, again.hidden = None, False, True
    again.callback = _choose
    return again


def _choose(context: Any, option: Any, value: Any) -> None:  # noqa: ANN401  # Typer's Click
    command = context.command_path.partition(" ")[2]
    given = {option.name: value} if value else {}
    chosen.set(replace(chosen.get(Chosen()), command=command, **given))
