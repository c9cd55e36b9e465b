"""Asking for a terminal: the options that say what is to run in it, the request, the wait."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.caller import Exit, fail, note
from gatekeeper.entrypoints.cli.completion import (
    complete_open_terminal,
    complete_profile,
    complete_role,
    complete_target,
    complete_terminal,
)
from gatekeeper.kernel.ids import TERMINAL_ID
from gatekeeper.wire.terminals import BundleRequest, CreateTerminal, DatabaseRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.client.api import Client
    from gatekeeper.entrypoints.cli.caller import Caller
    from gatekeeper.wire.terminals import TerminalView

FIRST_WAIT_SECONDS: Final = 2
"""What the server waits for a terminal before it answers; one that takes longer is in a queue."""
POLL_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Between two looks at a terminal that is not ready; the last one again and again."""

Profile = Annotated[
    str | None,
    typer.Option(
        "--terminal-profile",
        "-p",
        help="What may be run: a profile of the server's. Without it shell, or bundle.",
        autocompletion=complete_profile,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", help="With a database login: where to.", autocompletion=complete_target
    ),
]
Role = Annotated[
    str | None,
    typer.Option(
        "--role", "-r", help="With --target: which role pack.", autocompletion=complete_role
    ),
]
Bundle = Annotated[
    str | None, typer.Option("--bundle", help="URL of an archive that is unpacked into /work.")
]
BundleHash = Annotated[
    str | None, typer.Option("--sha256", help="The archive's SHA-256, in hexadecimal.")
]
Install = Annotated[
    str | None,
    typer.Option("--install", help="With --bundle: what is run first, in a shell, in view."),
]
Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="COMMAND", help="After --: what to run, and its arguments."),
]


def terminal_id(text: str | None) -> str | None:
    if text is not None and TERMINAL_ID.fullmatch(text) is None:
        msg = "a terminal's id is trm_ and 20 letters and digits; gk terminal list shows them"
        raise typer.BadParameter(msg)
    return text


TerminalId = Annotated[
    str,
    typer.Argument(metavar="TERMINAL", autocompletion=complete_terminal, callback=terminal_id),
]
OpenTerminalId = Annotated[
    str,
    typer.Argument(metavar="TERMINAL", autocompletion=complete_open_terminal, callback=terminal_id),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What stood on the command line."""

    profile: str | None
    command: Sequence[str]
    ttl: str | None
    reason: str
    target: str | None = None
    role: str | None = None
    bundle: str | None = None
    sha256: str | None = None
    install: str | None = None
    prompt: str | None = None
    size: tuple[int, int] | None = None


def ask(caller: Caller, client: Client, wanted: Wanted) -> TerminalView:
    """Create a terminal; it may have to wait for its turn."""
    if caller.settings.require_reason and not wanted.reason:
        fail("this profile asks for a --reason", Exit.USAGE)
    if (wanted.target is None) != (wanted.role is None):
        fail("a database login needs both --target and --role", Exit.USAGE)
    if wanted.bundle is None and (wanted.sha256 or wanted.install):
        fail("--sha256 and --install are about a --bundle", Exit.USAGE)
    return client.call(
        operations.create_terminal(
            _body(caller, wanted),
            idempotency_key=secrets.token_urlsafe(24),
            wait=FIRST_WAIT_SECONDS,
        )
    )


def wait_until_ready(client: Client, view: TerminalView) -> TerminalView:
    """Wait until it is ready, or over; say who is before it in the queue."""
    place, looked = None, 0
    while view.status == "pending":
        if view.queue_place != place and view.queue_place is not None:
            place = view.queue_place
            note(f"waiting for a place: {place} before this one" if place else "it is next")
        time.sleep(POLL_SECONDS[min(looked, len(POLL_SECONDS) - 1)])
        looked += 1
        view = client.call(operations.get_terminal(view.terminal_id))
    return view


def _body(caller: Caller, wanted: Wanted) -> CreateTerminal:
    bundle = database = None
    if wanted.bundle is not None:
        install = ("/bin/sh", "-c", wanted.install) if wanted.install else ()
        bundle = BundleRequest(url=wanted.bundle, sha256=wanted.sha256, install=install)
    if wanted.target is not None and wanted.role is not None:
        database = DatabaseRequest(target=wanted.target, role=wanted.role)
    columns, rows = wanted.size or (80, 24)
    return CreateTerminal(
        profile=wanted.profile or ("bundle" if bundle else "shell"),
        command=tuple(wanted.command) or None,
        prompt=wanted.prompt,
        bundle=bundle,
        database=database,
        ttl=wanted.ttl or caller.settings.default_ttl,
        columns=columns,
        rows=rows,
        reason=wanted.reason,
    )
