"""`gk terminal`: ask for, see, attach to, share and end terminals."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.asking import WAIT_SECONDS, Reason, Ttl
from gatekeeper.entrypoints.cli.asking_terminal import (
    Bundle,
    BundleHash,
    Command,
    Install,
    OpenTerminalId,
    Profile,
    Role,
    Target,
    TerminalId,
    Wanted,
    ask,
    wait_until_ready,
)
from gatekeeper.entrypoints.cli.caller import Exit, calling, fail, note, show, waiting
from gatekeeper.entrypoints.cli.recording import download, play
from gatekeeper.entrypoints.cli.shell import NoDetach, Raw
from gatekeeper.entrypoints.cli.tables import plain, table, words
from gatekeeper.entrypoints.commands import Json, group
from gatekeeper.kernel.session import OPEN, SessionStatus
from gatekeeper.wire.sessions import DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS
from gatekeeper.wire.terminals import (
    MAX_COLUMNS,
    MAX_ROWS,
    MAX_SHARE_MINUTES,
    SendInput,
    ShareTerminal,
    TerminalView,
    WaitForText,
)

MAX_WAIT_SECONDS = 600
WAIT_STEP_SECONDS = 30
"""What the server waits at most for one question."""

app = group(no_args_is_help=True, help="Ask for, see, attach to, share and end terminals.")
app.command()(play)
app.command()(download)


@app.command()
def create(
    command: Command = None,
    terminal_profile: Profile = None,
    ttl: Ttl = None,
    reason: Reason = "",
    target: Target = None,
    role: Role = None,
    bundle: Bundle = None,
    sha256: BundleHash = None,
    install: Install = None,
    prompt: Annotated[
        str | None, typer.Option(help="Typed in when the command has started.")
    ] = None,
    columns: Annotated[int, typer.Option(min=1, max=MAX_COLUMNS, help="Its width.")] = 80,
    rows: Annotated[int, typer.Option(min=1, max=MAX_ROWS, help="Its height.")] = 24,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it is ready, or has failed.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Start a command in a sandbox of its own, and print the terminal's id.

    It goes on without anybody looking; attach to it from anywhere.

    Example:  gk terminal create --ttl 30m --reason "nightly" -- make test

    Example:  gk terminal create --bundle https://example.com/tool.tar.gz --sha256 4f2a... -- ./tool
    """
    wanted = Wanted(
        profile=terminal_profile,
        command=command or (),
        ttl=ttl,
        reason=reason,
        target=target,
        role=role,
        bundle=bundle,
        sha256=sha256,
        install=install,
        prompt=prompt,
        size=(columns, rows),
    )
    with calling() as caller, caller.client() as client:
        view = ask(caller, client, wanted)
        if wait:
            view = wait_until_ready(client, view)
        if view.status == "failed":
            why = "" if view.error is None else f": {view.error.message} ({view.error.code})"
            fail(f"terminal {view.terminal_id} failed{why}", Exit.ERROR)
        if caller.wants_json(as_json):
            show(view)
        else:
            note(f"to look at it: gk terminal attach {view.terminal_id}")
            typer.echo(view.terminal_id)


@app.command("list")
def list_terminals(
    status: Annotated[SessionStatus | None, typer.Option(help="Only these.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Ended ones too.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_ITEMS, help="How many at most.")
    ] = DEFAULT_PAGE_ITEMS,
    as_json: Json = False,
) -> None:
    """List terminals, newest first; operators see everybody's.

    Example:  gk terminal list --all
    """
    with calling() as caller, caller.client() as client:
        statuses = {status} if status else () if everything else OPEN
        page = client.call(operations.list_terminals(statuses=statuses, limit=limit))
        if caller.wants_json(as_json):
            show(page)
        elif not page.items:
            note(
                "no terminals" if everything or status else "no live terminals (--all: ended ones)"
            )
        else:
            heads = ("TERMINAL", "STATUS", "PROFILE", "COMMAND", "REQUESTER", "ENDS")
            table(heads, [_row(item) for item in page.items])
            if page.next is not None:
                note(f"there are more than {limit}; --limit shows up to {MAX_PAGE_ITEMS}")


@app.command("show")
def show_terminal(terminal: TerminalId, as_json: Json = False) -> None:
    """Show one terminal: its state, its stages, how it ended, and its last screen.

    Example:  gk terminal show trm_abcdefghijklmnopqrst
    """
    with calling() as caller, caller.client() as client:
        view = client.call(operations.get_terminal(terminal))
        if caller.wants_json(as_json):
            show(view)
            return
        hidden = {"stages", "last_screen", "error"}
        for name, value in view.model_dump(mode="json", exclude_none=True, exclude=hidden).items():
            typer.echo(plain(f"{name.replace('_', ' '):<16} {words(value)}"))
        for stage in view.stages:
            after = (stage.at - view.created_at).total_seconds()
            typer.echo(plain(f"{stage.stage.replace('_', ' '):<16} after {after:.3f} s"))
        if view.error is not None:
            typer.echo(plain(f"{'last error':<16} {view.error.code}: {view.error.message}"))
        if view.last_screen:
            typer.echo(plain(view.last_screen.rstrip(), lines=True))


@app.command()
def attach(
    terminal: OpenTerminalId,
    read: Annotated[bool, typer.Option("--read", help="Watch, and type nothing.")] = False,
    take: Annotated[
        bool, typer.Option("--take", help="Take the input from whoever has it, where allowed.")
    ] = False,
    no_detach: NoDetach = False,
    raw: Raw = False,
) -> None:
    """Look at a terminal and type in it; Ctrl-] leaves it running.

    The exit code is its command's, 7 when its time was over, 0 when you left.

    Example:  gk terminal attach trm_abcdefghijklmnopqrst

    Example:  gk terminal attach --read trm_abcdefghijklmnopqrst
    """
    from gatekeeper.entrypoints.cli.attached import follow, result  # noqa: PLC0415  # slow
    from gatekeeper.entrypoints.cli.console import DETACH, Console  # noqa: PLC0415  # slow
    from gatekeeper.kernel.terminal.term import Mode  # noqa: PLC0415  # slow

    mode = Mode.READ if read else Mode.MODERATE if take else Mode.WRITE
    with calling() as caller, caller.client() as client:
        with Console(detach=None if no_detach else DETACH, raw=raw) as console:
            outcome = follow(client, terminal, mode, console=console, take=take)
        if outcome.closed is None and console.typed_at:
            note(f"it goes on: gk terminal attach {terminal}")
        sys.exit(result(client, terminal, outcome, console))


@app.command()
def share(
    terminal: OpenTerminalId,
    minutes: Annotated[
        int, typer.Option(min=1, max=MAX_SHARE_MINUTES, help="How long the link works.")
    ] = 60,
    as_json: Json = False,
) -> None:
    """Make a link to watch a terminal, for people who can sign in. It shows, it never types.

    Whoever has the link can watch until it expires, or the terminal ends. It is shown once.

    Example:  gk terminal share trm_abcdefghijklmnopqrst --minutes 30
    """
    with calling() as caller, caller.client() as client:
        found = client.call(operations.share_terminal(terminal, ShareTerminal(minutes=minutes)))
        if caller.wants_json(as_json):
            show(found)
        else:
            note(f"works until {found.expires_at.astimezone().strftime('%Y-%m-%d %H:%M:%S')}")
            typer.echo(found.url)


@app.command()
def stop(terminal: OpenTerminalId, as_json: Json = False) -> None:
    """End a terminal and everything in it. Ending one that has ended changes nothing.

    Example:  gk terminal stop trm_abcdefghijklmnopqrst
    """
    with calling() as caller, caller.client() as client:
        with waiting("waiting for the proof that nothing of it is left"):
            view = client.call(operations.stop_terminal(terminal, wait=WAIT_SECONDS))
        if caller.wants_json(as_json):
            show(view)
        elif view.status == "cleaned":
            note("ended: nothing of it is left, and that is proven")
        else:
            note(f"{view.status}: its sandbox is being taken away")


@app.command("input")
def type_in(
    terminal: OpenTerminalId,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to type; without it, what is piped.")
    ] = None,
    enter: Annotated[
        bool, typer.Option("--enter/--no-enter", help="Press Enter behind it.")
    ] = True,
) -> None:
    """Type into a terminal, without attaching to it: for programs.

    Example:  gk terminal input trm_abcdefghijklmnopqrst "make test"
    """
    with calling() as caller, caller.client() as client:
        data = sys.stdin.read() if text is None else text
        client.call(operations.send_input(terminal, SendInput(data=data + "\r" * enter)))


@app.command()
def screen(terminal: OpenTerminalId, as_json: Json = False) -> None:
    """Print what is to be seen in a terminal now, as text: for programs.

    Example:  gk terminal screen trm_abcdefghijklmnopqrst
    """
    with calling() as caller, caller.client() as client:
        found = client.call(operations.terminal_screen(terminal))
        if caller.wants_json(as_json):
            show(found)
        else:
            typer.echo(plain("\n".join(found.lines).rstrip(), lines=True))


@app.command()
def wait(
    terminal: OpenTerminalId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is to appear.")],
    seconds: Annotated[
        int, typer.Option(min=0, max=MAX_WAIT_SECONDS, help="How long at most.")
    ] = WAIT_STEP_SECONDS,
    as_json: Json = False,
) -> None:
    """Wait until a text is to be seen in a terminal: for programs. Exit code 7 when it was not.

    Example:  gk terminal wait trm_abcdefghijklmnopqrst "passed" --seconds 300
    """
    with calling() as caller, caller.client() as client:
        while True:
            step = min(seconds, WAIT_STEP_SECONDS)
            body = WaitForText(text=text, seconds=step)
            found = client.call(operations.wait_for_text(terminal, body))
            seconds -= step
            if found.found or seconds <= 0:
                break
        if caller.wants_json(as_json):
            show(found)
        sys.exit(Exit.OK if found.found else Exit.TIMED_OUT)


def _row(view: TerminalView) -> tuple[str, ...]:
    at = view.ended_at or view.expires_at
    ends = "-" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    command = " ".join(view.command)
    return view.terminal_id, view.status, view.profile, command[:40], view.requester, ends
