"""`gk login`, `gk logout`, `gk whoami`."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from gatekeeper.client import login as flows
from gatekeeper.client import operations, tokens
from gatekeeper.client import workload as jobs
from gatekeeper.entrypoints.cli.caller import Caller, Exit, calling, fail, note, show


def login(
    device: Annotated[
        bool, typer.Option("--device", help="Only show the address; open no browser.")
    ] = False,
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
    """Log in at the server's identity provider, by confirming a code in a browser.

    Tokens are kept in a file that only you can read, and renewed by themselves.
    A CI job logs in with --workload; its login lasts 15 minutes.

    Example:  gk login

    Example:  gk --server https://gatekeeper.example.com login --device

    Example:  gk --server https://gatekeeper.example.com login --workload
    """
    if workload or token_file is not None:
        _login_as_job(token_file)
        return
    with calling() as caller:
        with caller.client(anonymous=True) as client:
            offered = client.call(operations.auth_config()).issuers
        chosen = [one for one in offered if issuer in (None, one.issuer)]
        if not chosen:
            fail("the server offers no such issuer to log in at", Exit.USAGE)
        found = flows.device_login(
            chosen[0], lambda url, code: _show(url, code, browser=not device)
        )
        _keep(caller, found)


def logout() -> None:
    """Forget the tokens for the server.

    Example:  gk logout
    """
    with calling() as caller:
        note("logged out" if tokens.forget(caller.home, caller.server) else "was not logged in")


def whoami(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show who you are to the server.

    Example:  gk whoami --json
    """
    with calling() as caller, caller.client() as client:
        who = client.call(operations.who_am_i())
        if as_json:
            show(who)
        else:
            typer.echo(f"{who.email or who.subject}  ({', '.join(who.groups) or 'no groups'})")
            typer.echo(f"{who.kind}, known to {who.issuer} as {who.subject}")


def _login_as_job(token_file: Path | None) -> None:
    with calling() as caller:
        found = jobs.job_token(file=token_file, audience=caller.server, environment=os.environ)
        with caller.client(anonymous=True) as client:
            answer = client.call(operations.exchange_token(found))
        _keep(caller, jobs.tokens_of(answer))


def _keep(caller: Caller, found: tokens.Tokens) -> None:
    tokens.save(caller.home, caller.server, found)
    with caller.client() as client:
        who = client.call(operations.who_am_i())
    note(f"logged in as {who.email or who.subject} ({', '.join(who.groups) or 'no groups'})")


def _show(url: str, code: str, *, browser: bool) -> None:
    note(f"Confirm the code {code} at\n  {url}")
    if browser:
        webbrowser.open(url)
