"""`gk audit`: read, export and verify the evidence."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatekeeper.client import operations
from gatekeeper.client.evidence import Report, verify_export
from gatekeeper.entrypoints.cli.caller import Exit, calling, note, show_values
from gatekeeper.entrypoints.commands import group
from gatekeeper.kernel.errors import InputError

if TYPE_CHECKING:
    from gatekeeper.client.api import Client
    from gatekeeper.wire.audit import EventView

app = group(no_args_is_help=True, help="Read, export and verify the evidence.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def tail(
    count: Annotated[int, typer.Option("-n", help="How many.", min=1, max=1000)] = 20,
    session: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    as_json: Json = False,
) -> None:
    """Show the newest events.

    Example:  gk audit tail -n 50

    Example:  gk audit tail --session ses_abcdefghijklmnopqrst --json
    """
    with calling() as caller, caller.client() as client:
        after = 0
        if session is None:
            newest = client.call(operations.audit_checkpoints()).items
            after = max(0, newest[0].size - count) if newest else 0
        events = client.call(
            operations.audit_events(after=after, limit=count, session=session)
        ).items
        in_json = caller.wants_json(as_json)
        for event in events:
            typer.echo(event.canonical if in_json else _line(event))


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
) -> None:
    """Export the whole chain, to be verified anywhere without this server.

    Example:  gk audit export --output evidence.jsonl
    """
    with calling() as caller, caller.client() as client:
        lines = _download(client, output)
        note(f"{lines} lines in {output}")


@app.command()
def verify(
    export_file: Annotated[
        Path | None,
        typer.Option("--export", help="An export; without it, the server's chain.", exists=True),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(help="The server's public key (JWK), got another way.", exists=True),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether the chain is whole, or which event was touched first.

    With --export no server is asked. Exit code 1 means that the chain is broken.

    Example:  gk audit verify

    Example:  gk audit verify --export evidence.jsonl --public-key gatekeeper.jwk
    """
    with calling() as caller:
        key = None if public_key is None else public_key.read_text()
        if export_file is not None:
            report = verify_export(export_file, key)
        else:
            with tempfile.TemporaryDirectory() as folder, caller.client() as client:
                _download(client, Path(folder) / "export")
                report = verify_export(Path(folder) / "export", key)
        _tell(report, as_json=caller.wants_json(as_json))
        sys.exit(Exit.OK if report.broken is None else Exit.ERROR)


def _download(client: Client, path: Path) -> int:
    count = 0
    with client.stream(operations.audit_export()) as lines, path.open("w") as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    if count == 0:
        msg = "the server sent nothing"
        raise InputError(msg)
    return count


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        broken = report.broken
        show_values(
            {
                "whole": broken is None,
                "events": report.events,
                "head": report.head,
                "keyId": report.key_id,
                "firstBroken": None if broken is None else {"seq": broken.seq, "what": broken.what},
            }
        )
        return
    if report.broken is None:
        typer.echo(f"whole: {report.events} events, signed by key {report.key_id}")
    else:
        typer.echo(f"BROKEN at event {report.broken.seq}: {report.broken.what}")
    if not report.key_was_given:
        note("the key came with the export; --public-key checks against one you have")


def _line(event: EventView) -> str:
    fields = json.loads(event.canonical)
    who = fields["actor"]["key"].rpartition("#")[2]
    what = fields["session"] or fields["target"] or ""
    return f"{event.seq:>6}  {fields['at'][:19]}  {fields['kind']:<22} {who:<12} {what}"
