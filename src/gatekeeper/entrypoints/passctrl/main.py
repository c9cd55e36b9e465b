"""`passctrl`: the commands of forward auth. Each is imported when it is used."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gatekeeper.entrypoints.commands import Lazy, group, lazy_group, print_version, run

COMMANDS: Final = {
    "init": Lazy("passctrl.init:init", "Write a first configuration, for PassCtrl and a proxy."),
    "serve": Lazy("passctrl.serve:serve", "Answer proxies."),
    "check": Lazy("passctrl.check:check", "Check a configuration without serving it."),
    "doctor": Lazy("passctrl.doctor:doctor", "Examine a running proxy from outside."),
    "explain": Lazy("passctrl.explain:explain", "Show why a request is answered as it is."),
    "test": Lazy("passctrl.test:run_tables", "Run the tables of cases kept beside the rules."),
    "completion": Lazy("passctrl.completion:completion", "Print a completion script for a shell."),
}

app = group(cls=lazy_group(COMMANDS), no_args_is_help=True)


@app.callback()
def options(
    version: Annotated[  # its callback answers
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda value: print_version("passctrl", wanted=value),
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Forward auth: decide about every request that a reverse proxy asks about.

    It needs no database and no server.

    \b
    Examples:
      passctrl init --proxy nginx first-gate      write a gate that works
      passctrl check first-gate/config.yaml       say all that is wrong with it
      passctrl serve first-gate/config.yaml       answer the proxy
    """  # noqa: D301  # \b keeps the lines as they are


def main() -> None:
    run(app, "passctrl")
