"""`passctrl explain`: why a request is answered as it is, offline."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from gatekeeper import bootstrap
from gatekeeper.entrypoints.cli.tables import plain
from gatekeeper.entrypoints.commands import Json
from gatekeeper.kernel.errors import InputError
from gatekeeper.wire.forwardauth import DecisionExplained

CODES: Final = {"pass": 0, "fail": 1, "error": 2}
COLOURS: Final = {"pass": "green", "fail": "yellow", "error": "red"}
MAX_REQUEST_BYTES: Final = 65_536


def explain(
    config: Annotated[Path, typer.Argument(help="Configuration: YAML, TOML or JSON.")],
    request: Annotated[
        Path,
        typer.Option(help="The request as its client sends it (RFC 9112); - reads it from stdin."),
    ],
    endpoint: Annotated[
        str | None, typer.Option(help="Endpoint that is asked; the only one by default.")
    ] = None,
    dialect: Annotated[
        str, typer.Option(help="How the proxy asks: generic, nginx, traefik, ...")
    ] = "generic",
    backend: Annotated[
        Path | None,
        typer.Option(help="Recorded answers: backends, tokens and sessions.", exists=True),
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain a decision: each step, what the expressions read, what is kept, and why not.

    It is the decision that serving makes, told by a proxy that the endpoint trusts. Nothing is
    called: what a rule asks a backend is answered from --backend, or an error. No credential is
    shown. Exit code: 0 pass, 1 fail, 2 error, or input that cannot be used.

    Example:  passctrl explain config.yaml --request request.http

    Example:  gk forwardauth explain config.yaml --request request.http --json
    """
    try:
        explained = bootstrap.explain_request(
            config,
            os.environ,
            request=_text(request),
            endpoint=endpoint,
            dialect=dialect,
            answers=backend,
        )
    except InputError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(CODES["error"]) from error
    if as_json:
        typer.echo(explained.model_dump_json(by_alias=True, indent=2, exclude_none=True))
    else:
        typer.echo("\n".join(_tree(explained)))
    raise typer.Exit(CODES[explained.outcome])


def _text(request: Path) -> str:
    try:
        if str(request) == "-":
            data = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
        else:
            with request.open("rb") as file:
                data = file.read(MAX_REQUEST_BYTES + 1)
    except OSError as error:
        msg = f"{request}: {error.strerror or type(error).__name__}"
        raise InputError(msg) from error
    if len(data) > MAX_REQUEST_BYTES:
        msg = f"{request}: a request may have at most {MAX_REQUEST_BYTES} bytes"
        raise InputError(msg)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        msg = f"{request}: expected UTF-8"
        raise InputError(msg) from error


def _tree(explained: DecisionExplained) -> Iterator[str]:
    """Write the decision as a tree: what it came to first, then how."""
    outcome = typer.style(explained.outcome, fg=COLOURS[explained.outcome], bold=True)
    yield f"{outcome} {explained.status}  {explained.endpoint} ({explained.dialect})"
    if explained.reason:
        yield f"  {plain(explained.reason)}"
    steps = list(explained.steps)
    for step in steps:
        last = step is steps[-1]
        result = typer.style(plain(step.result), fg=COLOURS.get(step.result))
        yield f"{'└' if last else '├'}─ {step.agent} · {plain(step.subject)}: {result}"
        for name, value in step.detail.items():
            if value not in ("", {}, []):
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                yield f"{' ' if last else '│'}     {plain(name)}: {plain(text)}"
    yield from _list("answer", ((one.name, one.value) for one in explained.headers))
    yield from _list("cache", ((one.subject, one.result) for one in explained.cache))
    yield from _list("reads", ((one.subject, ", ".join(one.names)) for one in explained.reads))
    yield from _list("not in use", ((f"{s.kind} {s.name}", s.reason) for s in explained.skipped))


def _list(title: str, rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    for number, (name, value) in enumerate(rows):
        if number == 0:
            yield typer.style(title, bold=True)
        yield f"   {plain(name)}: {plain(value) or '-'}"
