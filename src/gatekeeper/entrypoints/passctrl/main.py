"""`passctrl`: the commands of forward auth. Each is imported when it is used."""

from __future__ import annotations

from typing import Final

from gatekeeper.entrypoints.commands import Lazy, group, lazy_group, run

COMMANDS: Final = {
    "init": Lazy("passctrl.init:init", "Write a first configuration, for PassCtrl and a proxy."),
    "serve": Lazy("passctrl.serve:serve", "Answer proxies."),
    "check": Lazy("passctrl.check:check", "Check a configuration without serving it."),
    "doctor": Lazy("passctrl.doctor:doctor", "Examine a running proxy from outside."),
    "explain": Lazy("passctrl.explain:explain", "Show why a request is answered as it is."),
    "test": Lazy("passctrl.test:run_tables", "Run the tables of cases kept beside the rules."),
}

app = group(cls=lazy_group(COMMANDS), no_args_is_help=True)


@app.callback()
def options() -> None:
    """Forward auth: decide about every request that a reverse proxy asks about.

    It needs no database and no server.
    """


def main() -> None:
    run(app, "passctrl")
