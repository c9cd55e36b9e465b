"""How every command of `gk` looks: plain help, examples as they are typed, shared options."""

from __future__ import annotations

import copy
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def finish(command: Any, shared: Sequence[Any]) -> None:  # noqa: ANN401  # Typer's Click
    """Give a command, and those in it, what all have."""
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            finish(inner, shared)
        return
    # The words of a command that is to be run are its own: `gk exec … psql -c 'SELECT 1'`.
    command.allow_interspersed_args = not any(param.nargs == -1 for param in command.params)
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
