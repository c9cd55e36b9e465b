"""`gk session`: ask for, see, extend and end database logins."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gatekeeper.client import operations
from gatekeeper.client.api import ServerUnreachableError
from gatekeeper.entrypoints.cli.asking import (
    WAIT_SECONDS,
    Reason,
    Role,
    Target,
    Ttl,
    ask,
    dsn_of,
    environment_of,
)
from gatekeeper.entrypoints.cli.caller import (
    calling,
    note,
    show,
    waiting,
)
from gatekeeper.entrypoints.cli.completion import (
    complete_open_session,
    complete_session,
)
from gatekeeper.entrypoints.cli.tables import plain, table
from gatekeeper.entrypoints.commands import Json, group
from gatekeeper.entrypoints.output import CreatedSession
from gatekeeper.kernel import ids
from gatekeeper.kernel.session import OPEN, SessionStatus
from gatekeeper.wire.sessions import (
    DEFAULT_PAGE_ITEMS,
    MAX_PAGE_ITEMS,
    ExtendSession,
    SessionEvent,
    SessionView,
)

if TYPE_CHECKING:
    from gatekeeper.client.api import Client

POLL_SECONDS: Final = 2.0

app = group(no_args_is_help=True, help="Ask for, see, extend and end database logins.")


def _session_id(text: str) -> str:
    if not ids.is_session_id(text):
        msg = "a session id is ses_ and 20 letters and digits; gk session list shows them"
        raise typer.BadParameter(msg)
    return text


SessionId = Annotated[
    str,
    typer.Argument(metavar="SESSION", autocompletion=complete_session, callback=_session_id),
]
OpenSessionId = Annotated[
    str,
    typer.Argument(metavar="SESSION", autocompletion=complete_open_session, callback=_session_id),
]


@app.command()
def create(
    role: Role,
    target: Target = None,
    ttl: Ttl = None,
    reason: Reason = "",
    as_json: Json = False,
    as_env: Annotated[
        bool, typer.Option("--env", help="Print PG* variables for a shell to eval.")
    ] = False,
    dsn_only: Annotated[
        bool, typer.Option("--dsn-only", help="Print nothing but the DSN.")
    ] = False,
    generated: Annotated[
        bool, typer.Option("--generated", help="Let the agent make the password.")
    ] = False,
) -> None:
    """Ask for a database login and print its DSN, once.

    The password is made here and never leaves this machine: only its SCRAM verifier
    is sent. At the end of its time the login and its open connections are gone.

    Example:  gk session create --target pg-local --role app_read --ttl 15m --reason "ticket 42"

    Example:  psql "$(gk session create -t pg-local -r app_read --dsn-only)"
    """
    with calling() as caller, caller.client() as client:
        view, password = ask(caller, client, target, role, ttl, reason, generated=generated)
        _print_created(
            view,
            dsn_of(view, password),
            as_json=caller.wants_json(as_json),
            as_env=as_env,
            bare=dsn_only,
        )


@app.command("list")
def list_sessions(
    status: Annotated[SessionStatus | None, typer.Option(help="Only these.")] = None,
    target: Target = None,
    everything: Annotated[bool, typer.Option("--all", help="Ended ones too.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_ITEMS, help="How many at most.")
    ] = DEFAULT_PAGE_ITEMS,
    as_json: Json = False,
) -> None:
    """List sessions, newest first; operators see everybody's.

    Example:  gk session list --status ready
    """
    with calling() as caller, caller.client() as client:
        statuses = {status} if status else () if everything else OPEN
        page = client.call(operations.list_sessions(statuses=statuses, target=target, limit=limit))
        if caller.wants_json(as_json):
            show(page.model_copy(update={"items": tuple(map(_public, page.items))}))
            return
        if not page.items:
            note("no sessions" if everything or status else "no live sessions (--all: ended ones)")
            return
        table(
            ("SESSION", "STATUS", "TARGET", "ROLE", "REQUESTER", "ENDS"),
            [
                (i.session_id, i.status.value, i.target, i.role, i.requester, _when(i))
                for i in page.items
            ],
        )
        if page.next is not None:
            note(f"there are more than {limit}; --limit shows up to {MAX_PAGE_ITEMS}")


@app.command("show")
def show_session(
    session: SessionId,
    credentials: Annotated[
        bool,
        typer.Option("--show-credentials", help="With the DSN, where the server has it for you."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one session; without --show-credentials never a password.

    A password that gk made is nowhere but where `gk session create` printed it.

    Example:  gk session show ses_abcdefghijklmnopqrst

    Example:  gk session show ses_abcdefghijklmnopqrst --show-credentials --json
    """
    with calling() as caller, caller.client() as client:
        view = client.call(operations.get_session(session))
        public = view if credentials else _public(view)
        if caller.wants_json(as_json):
            show(public)
            return
        for name, value in public.model_dump(mode="json", exclude_none=True).items():
            if not isinstance(value, dict):
                typer.echo(plain(f"{name.replace('_', ' '):<16} {value}"))
        if view.error is not None:
            typer.echo(plain(f"{'last error':<16} {view.error.code}: {view.error.message}"))


@app.command()
def revoke(session: OpenSessionId, as_json: Json = False) -> None:
    """End a session now, and wait for the proof that its login is gone.

    Ending one that has ended changes nothing.

    Example:  gk session revoke ses_abcdefghijklmnopqrst
    """
    with calling() as caller, caller.client() as client:
        with waiting("waiting for the proof that the login is gone"):
            view = client.call(operations.revoke_session(session, wait=WAIT_SECONDS))
        if caller.wants_json(as_json):
            show(_public(view))
        elif view.status is SessionStatus.CLEANED:
            note("revoked: the login is gone, and that is proven")
        else:
            note(f"{view.status.value}: access ends as soon as the target answers")


@app.command()
def extend(
    session: OpenSessionId,
    ttl: Annotated[str, typer.Option(help="From now: 15m, 1h.")],
    as_json: Json = False,
) -> None:
    """Move the end of a session, within what the policy allows.

    Example:  gk session extend ses_abcdefghijklmnopqrst --ttl 30m
    """
    with calling() as caller, caller.client() as client:
        view = client.call(operations.extend_session(session, ExtendSession(ttl=ttl)))
        if caller.wants_json(as_json):
            show(_public(view))
        else:
            note(f"it now ends at {_when(view)}")


@app.command()
def watch(as_json: Json = False) -> None:
    """Follow changes of sessions as they happen, until Ctrl-C.

    Example:  gk session watch
    """
    with calling() as caller, caller.client() as client:
        watching = _Watch(client, as_json=caller.wants_json(as_json))
        while True:
            try:
                watching.follow()
            except ServerUnreachableError:
                if not watching.connected:
                    raise
                note(f"connection lost; trying again every {POLL_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)


def _print_created(view: SessionView, dsn: str, *, as_json: bool, as_env: bool, bare: bool) -> None:
    if as_env:
        for name, value in environment_of(view).items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        typer.echo(f"export DATABASE_URL={shlex.quote(dsn)}")
    elif bare:
        typer.echo(dsn)
    elif as_json:
        show(CreatedSession(**view.model_dump(exclude={"dsn"}), dsn=dsn))
    else:
        note(f"session {view.session_id} is ready; it ends at {_when(view)}")
        note(f"to end it sooner: gk session revoke {view.session_id}")
        typer.echo(dsn)


class _Watch:
    """Knows where it was when a stream ended, so that nothing is shown twice or missed."""

    def __init__(self, client: Client, *, as_json: bool) -> None:
        self._client = client
        self._as_json = as_json
        self._last: str | None = None
        self.connected = False

    def follow(self) -> None:
        """Print the events of one stream until it ends."""
        with self._client.stream(operations.session_events(self._last)) as lines:
            if not self.connected:
                note("watching, live")
            self.connected = True
            for line in lines:
                if line.startswith("id: "):
                    self._last = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    _print_event(line.removeprefix("data: "), as_json=self._as_json)


def _print_event(data: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(json.loads(data)))
        return
    event = SessionEvent.model_validate_json(data)
    at = event.at.astimezone().strftime("%H:%M:%S")
    what = f"{event.session_id}  {event.status.value:<8}  {event.target}  {event.role}"
    typer.echo(plain(f"{at}  {what}"))


def _public(view: SessionView) -> SessionView:
    """Leave the credentials away: they are shown once, by the command that asked for them."""
    return view.model_copy(update={"dsn": None})


def _when(view: SessionView) -> str:
    at = view.ended_at or view.expires_at
    if at is None:
        return "-"
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
