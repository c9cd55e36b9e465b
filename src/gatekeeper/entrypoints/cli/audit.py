"""`gk audit`: read, export and verify the evidence."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from gatekeeper.client import operations
from gatekeeper.client.evidence import (
    Report,
    Trust,
    bounded_lines,
    last_checkpoint,
    verify_lines,
)
from gatekeeper.client.recordings import Recorded
from gatekeeper.entrypoints.cli.asking_terminal import terminal_id
from gatekeeper.entrypoints.cli.caller import Exit, calling, note, show
from gatekeeper.entrypoints.cli.files import whole
from gatekeeper.entrypoints.cli.tables import plain
from gatekeeper.entrypoints.commands import Json, group
from gatekeeper.entrypoints.output import ExportReport, FirstBroken, RecordingCheck, VerifyReport
from gatekeeper.kernel.errors import InputError
from gatekeeper.wire.audit import EventFields

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatekeeper.client.api import Client
    from gatekeeper.wire.audit import EventView

FOLLOW_SECONDS: Final = 1.0
PAGE_EVENTS: Final = 1_000
PROGRESS_LINES: Final = 20_000

app = group(no_args_is_help=True, help="Read, export and verify the evidence.")


@app.command()
def tail(
    count: Annotated[int, typer.Option("-n", help="How many.", min=1, max=PAGE_EVENTS)] = 20,
    session: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new ones, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the newest events. With --json each is a line, exactly as it was hashed.

    Example:  gk audit tail -n 50

    Example:  gk audit tail --follow

    Example:  gk audit tail --session ses_abcdefghijklmnopqrst --json
    """
    with calling() as caller, caller.client() as client:
        in_json = caller.wants_json(as_json)
        after = _shown(_newest(client, session, count), 0, as_json=in_json)
        if after == 0:
            note("there is no such event yet")
        with suppress(KeyboardInterrupt):
            while follow:
                time.sleep(FOLLOW_SECONDS)
                after = _shown(_events(client, session, after), after, as_json=in_json)


@app.command()
def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; - for standard output.")
    ],
    as_json: Json = False,
) -> None:
    """Export the whole chain, to be verified anywhere without this server.

    One file of JSON lines: a header with the public key, the events, and behind those
    that a signed checkpoint names, that checkpoint.

    Example:  gk audit export --output evidence.jsonl

    Example:  gk audit export --output - | gzip > evidence.jsonl.gz
    """
    with calling() as caller, caller.client() as client:
        with client.stream(operations.audit_export()) as lines, whole(output) as file:
            count = 0
            for line in _progress(lines, "exported"):
                file.write(line.encode() + b"\n")
                count += 1
        if caller.wants_json(as_json) and str(output) != "-":
            show(ExportReport(file=str(output), lines=count))
        else:
            note(f"{count} lines in {'standard output' if str(output) == '-' else output}")


@app.command()
def verify(
    export_file: Annotated[
        Path | None,
        typer.Option(
            "--export", help="An export, - for standard input; without it, the server's chain."
        ),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="The server's public key (JWK), got another way.", exists=True, dir_okay=False
        ),
    ] = None,
    agent_key: Annotated[
        list[Path] | None,
        typer.Option(
            help="An agent's public key (JWK), got another way. Repeatable.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    runner_key: Annotated[
        list[Path] | None,
        typer.Option(
            help="A runner's public key (JWK), got another way. Repeatable.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint, or an export, that you kept: the chain must still contain it.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            help="A terminal's recording, to be held against the chain.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    terminal: Annotated[
        str | None, typer.Option(help="With --recording: whose it must be.", callback=terminal_id)
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether the chain is whole, or which event was touched first.

    Checks every event, every signed checkpoint, every receipt that an agent or a runner
    signed, and a recording byte for byte. With --export no server is asked. Exit code 1 means
    that the chain is broken, or that the recording is not what was recorded.

    Example:  gk audit verify

    Example:  gk audit verify --export evidence.jsonl --public-key gatekeeper.jwk

    Example:  gk audit verify --checkpoint last-month.jsonl

    Example:  gk audit verify --recording session.cast --terminal trm_abcdefghijklmnopqrst
    """  # fmt: skip
    with calling() as caller:
        trust = Trust(
            public_key=None if public_key is None else _text(public_key),
            agent_keys=[_text(path) for path in agent_key or ()],
            runner_keys=[_text(path) for path in runner_key or ()],
            kept=None if checkpoint is None else last_checkpoint(checkpoint),
        )
        recorded = Recorded()
        if export_file is None:
            with caller.client() as client, client.stream(operations.audit_export()) as lines:
                report = _verified(recorded.looking_at(line.encode() for line in lines), trust)
        else:
            with _opened(export_file) as file:
                report = _verified(recorded.looking_at(bounded_lines(file)), trust)
        check = None if recording is None else _checked(recorded, recording, terminal)
        _tell(report, trust, check, as_json=caller.wants_json(as_json))
        whole = report.broken is None and (check is None or check.whole)
        sys.exit(Exit.OK if whole else Exit.ERROR)


def _checked(recorded: Recorded, path: Path, terminal: str | None) -> RecordingCheck:
    with path.open("rb") as file:
        found = recorded.check(file, terminal)
    return RecordingCheck(
        file=str(path),
        terminal_id=found.terminal,
        segments=found.segments,
        whole=found.wrong is None,
        problem=found.wrong,
        deleted_at=None if found.deleted is None else found.deleted.at,
        deleted_by=None if found.deleted is None else found.deleted.reason,
    )


def _newest(client: Client, session: str | None, count: int) -> list[EventView]:
    if session is not None:
        return _events(client, session, 0)[-count:]
    checkpoints = client.call(operations.audit_checkpoints()).items
    after = max(0, checkpoints[0].size - count) if checkpoints else 0
    return _events(client, None, after)[-count:]


def _events(client: Client, session: str | None, after: int) -> list[EventView]:
    """Return all events after one, page by page."""
    found: list[EventView] = []
    following: int | None = after
    while following is not None:
        page = client.call(
            operations.audit_events(after=following, limit=PAGE_EVENTS, session=session)
        )
        found += page.items
        following = page.next
    return found


def _shown(events: list[EventView], after: int, *, as_json: bool) -> int:
    """Show events; return the number of the last one seen."""
    for event in events:
        typer.echo(event.canonical if as_json else _line(event))
    return events[-1].seq if events else after


def _opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    if str(path) == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return path.open("rb")
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise InputError(msg) from error


def _verified(lines: Iterable[bytes], trust: Trust) -> Report:
    return verify_lines(_progress(lines, "verified"), trust)


def _progress(lines: Iterable[T], what: str) -> Iterator[T]:
    """Say on a terminal how far it is."""
    shown = False
    for number, line in enumerate(lines):
        if number and number % PROGRESS_LINES == 0 and sys.stderr.isatty():
            sys.stderr.write(f"\r{number:,} lines {what} ")
            sys.stderr.flush()
            shown = True
        yield line
    if shown:
        sys.stderr.write("\r" + " " * 40 + "\r")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read as text"
        raise InputError(msg) from error


def _tell(report: Report, trust: Trust, check: RecordingCheck | None, *, as_json: bool) -> None:
    broken = report.broken
    if as_json:
        show(_outcome(report).model_copy(update={"recording": check}))
        return
    if broken is None:
        typer.echo(
            f"whole: {report.events} events, {report.receipts} of them with a receipt,"
            f" signed by key {report.key_id}"
        )
    else:
        typer.echo(plain(f"BROKEN at event {broken.seq}: {broken.what}"))
        note(f"events 1 to {report.signed} are whole and signed" if report.signed else
             "no event before it is whole and signed")  # fmt: skip
    if check is not None:
        typer.echo(plain(_of_recording(check)))
        if check.deleted_at is not None:
            when = f"deleted at {check.deleted_at[:19]}Z by {check.deleted_by}"
            note(plain(f"the server's own recording was {when}; this is a copy"))
    if trust.public_key is None:
        note("the key came with the export; --public-key checks against one you have")
    if not trust.agent_keys:
        note("the agents' keys came with the export; --agent-key checks against those you have")
    if report.runners and not trust.runner_keys:
        note("the runners' keys came with the export; --runner-key checks against those you have")


def _of_recording(check: RecordingCheck) -> str:
    if check.problem is None:
        return f"whole: {check.file}, all {check.segments} segment(s) of {check.terminal_id}"
    return f"BROKEN: {check.file}: {check.problem}"


def _outcome(report: Report) -> VerifyReport:
    broken = report.broken
    return VerifyReport(
        whole=broken is None,
        events=report.events,
        signed=report.signed,
        receipts=report.receipts,
        head=report.head,
        key_id=report.key_id,
        agent_key_ids=tuple(sorted(report.agents)),
        runner_key_ids=tuple(sorted(report.runners)),
        first_broken=None if broken is None else FirstBroken(seq=broken.seq, what=broken.what),
    )


def _line(event: EventView) -> str:
    fields = EventFields.model_validate_json(event.canonical)
    who = fields.actor.key.rpartition("#")[2]
    what = fields.session or fields.target or ""
    return plain(f"{event.seq:>6}  {fields.at[:19]}  {fields.kind:<22} {who:<12} {what}")
