"""`gk login`, `gk logout`, `gk whoami`."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatekeeper.client import login as flows
from gatekeeper.client import operations, tokens
from gatekeeper.client import workload as jobs
from gatekeeper.entrypoints.cli.caller import Caller, Exit, calling, fail, note, show
from gatekeeper.entrypoints.cli.tables import plain
from gatekeeper.entrypoints.commands import Json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatekeeper.client.tokens import Tokens
    from gatekeeper.wire.identity import LoginIssuer


def login(
    browser: Annotated[
        bool | None,
        typer.Option(
            "--browser/--device",
            help="In a browser on this machine, or by a code confirmed in a browser anywhere."
            " Without either: as this machine can.",
        ),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(help="Which issuer, when the server takes several.")
    ] = None,
    workload: Annotated[
        bool, typer.Option("--workload", help="Log in as the CI job this runs in.")
    ] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="With --workload: a file that holds the job's token.")
    ] = None,
) -> None:
    """Log in at the server's identity provider.

    A browser opens where there is one; over SSH and on machines without a screen a code
    is shown instead. Tokens are kept in the system's keyring, or in a file that only you
    can read, and are renewed by themselves. A CI job logs in with --workload; its login
    lasts 15 minutes.

    Example:  gk login

    Example:  gk login --server https://gatekeeper.example.com --device

    Example:  gk login --server https://gatekeeper.example.com --workload
    """
    if workload or token_file is not None:
        _login_as_job(token_file)
        return
    with calling() as caller:
        with caller.client(anonymous=True) as client:
            chosen = _choose(client.call(operations.auth_config()).issuers, issuer)
        _keep(caller, _log_in(chosen, browser))


def logout() -> None:
    """Forget the tokens for the server.

    Example:  gk logout
    """
    with calling() as caller:
        note("logged out" if tokens.forget(caller.home, caller.server) else "was not logged in")


def whoami(
    as_json: Json = False,
) -> None:
    """Show who you are to the server.

    Example:  gk whoami --json
    """
    with calling() as caller, caller.client() as client:
        who = client.call(operations.who_am_i())
        if caller.wants_json(as_json):
            show(who)
        else:
            typer.echo(
                plain(f"{who.email or who.subject}  ({', '.join(who.groups) or 'no groups'})")
            )
            typer.echo(plain(f"{who.kind}, known to {who.issuer} as {who.subject}"))


def _login_as_job(token_file: Path | None) -> None:
    with calling() as caller:
        found = jobs.job_token(file=token_file, audience=caller.server, environment=os.environ)
        with caller.client(anonymous=True) as client:
            answer = client.call(operations.exchange_token(found))
        _keep(caller, jobs.tokens_of(answer))


def _keep(caller: Caller, found: Tokens) -> None:
    in_keyring = tokens.save(caller.home, caller.server, found)
    with caller.client() as client:
        who = client.call(operations.who_am_i())
    note(f"logged in as {who.email or who.subject} ({', '.join(who.groups) or 'no groups'})")
    if caller.verbose:
        note(f"tokens are kept in {'the keyring' if in_keyring else caller.home / 'tokens'}")


def can_open_a_browser(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a page that is opened here appears before the person who asked."""
    if environment.get("BROWSER"):
        return True
    if "SSH_CONNECTION" in environment:
        return False
    return platform == "darwin" or bool(
        environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    )


def _choose(offered: Sequence[LoginIssuer], wanted: str | None) -> LoginIssuer:
    fitting = [one for one in offered if wanted in {None, one.issuer}]
    if not fitting:
        known = ", ".join(one.issuer for one in offered) or "none"
        fail(f"the server offers no such issuer to log in at (known: {known})", Exit.USAGE)
    return fitting[0]


def _log_in(chosen: LoginIssuer, browser: bool | None) -> Tokens:
    with flows.Issuer(chosen) as issuer:
        if browser is None:
            browser = issuer.offers_browser and (
                can_open_a_browser(os.environ) or not issuer.offers_device
            )
        return issuer.browser_login(_open) if browser else issuer.device_login(_show)


def _open(url: str) -> None:
    if not can_open_a_browser(os.environ):
        note(f"Open this page in a browser on this machine:\n  {url}")
        return
    note(f"Your browser opens; if it does not, go to\n  {url}")
    # Some browsers return when they are closed, and the way back is to be taken before.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True, name="browser").start()


def _show(url: str, code: str) -> None:
    note(f"Confirm the code {code} at\n  {url}")
