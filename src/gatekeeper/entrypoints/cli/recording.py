"""`gk terminal play` and `gk terminal download`: what a terminal showed."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from gatekeeper.client.recordings import downloaded
from gatekeeper.client.sequences import Modes, Sieve, Text, asks
from gatekeeper.entrypoints.cli.asking_terminal import TerminalId
from gatekeeper.entrypoints.cli.caller import calling, note
from gatekeeper.entrypoints.cli.completion import complete_terminal
from gatekeeper.entrypoints.cli.files import whole
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.ids import TERMINAL_ID
from gatekeeper.kernel.terminal.recording import read_recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gatekeeper.kernel.terminal.recording import Event, Header

MAX_SPEED: Final = 1_000.0
MAX_PAUSE_SECONDS: Final = 3_600.0


def play(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="FILE|TERMINAL",
            help="A recording, - for standard input, or a terminal's id.",
            autocompletion=complete_terminal,
        ),
    ],
    speed: Annotated[
        float, typer.Option(min=0.01, max=MAX_SPEED, help="How many times as fast as it was.")
    ] = 1.0,
    idle: Annotated[
        float, typer.Option(min=0, max=MAX_PAUSE_SECONDS, help="No pause is longer, in seconds.")
    ] = 2.0,
) -> None:
    """Play a terminal's recording (asciicast v3). Into a file or pipe: its text, at once.

    What would reach outside of the screen, or have your terminal answer, is left out.

    Example:  gk terminal play trm_abcdefghijklmnopqrst --speed 4

    Example:  gk terminal play session.cast --idle 0.5
    """
    with calling() as caller:
        if TERMINAL_ID.fullmatch(recording):
            with caller.client() as client, downloaded(client, recording) as file:
                _play(file, speed, idle)
        else:
            with _opened(recording) as file:
                _play(file, speed, idle)


def download(
    terminal: TerminalId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; - for standard output."),
    ] = None,
) -> None:
    """Take a terminal's recording from the server, as an asciicast v3 file.

    gk terminal play plays it, and so do asciinema and its players; gk audit verify
    --recording holds it against the evidence.

    Example:  gk terminal download trm_abcdefghijklmnopqrst -o session.cast
    """
    with calling() as caller, caller.client() as client, downloaded(client, terminal) as source:
        path = output or Path(f"{terminal}.cast")
        with whole(path) as file:
            shutil.copyfileobj(source, file)
        if str(path) != "-":
            note(f"{path.stat().st_size} bytes in {path}")


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  # closed below
    except (OSError, ValueError) as error:
        msg = f"{name}: {getattr(error, 'strerror', None) or 'no such file'}"
        raise InputError(msg) from error
    with file:
        yield file


def _play(file: IO[bytes], speed: float, idle: float) -> None:
    header, events = read_recording(file)
    if not os.isatty(1):
        _at_once(events)
        return
    _hint(header)
    modes, sieve = Modes(), Sieve(asks)
    with suppress(KeyboardInterrupt):
        for data in _timed(events, speed, idle, time.sleep):
            shown = sieve.feed(data)
            modes.feed(shown)
            sys.stdout.buffer.write(shown)
            sys.stdout.buffer.flush()
    sys.stdout.buffer.write(modes.undo() + b"\x1b[0m\r\n")


def _timed(
    events: Iterable[Event], speed: float, idle: float, sleep: Callable[[float], None]
) -> Iterator[bytes]:
    """Yield the output, each at its time."""
    waiting = 0.0
    for event in events:
        waiting += min(event.interval, idle) / speed
        if event.code == "o":
            sleep(waiting)
            waiting = 0.0
            yield event.data.encode()


def _at_once(events: Iterable[Event]) -> None:
    text = Text()
    for event in events:
        if event.code == "o":
            sys.stdout.buffer.write(text.feed(event.data.encode()))
    sys.stdout.buffer.flush()


def _hint(header: Header) -> None:
    columns, rows = shutil.get_terminal_size()
    if columns < header.columns or rows < header.rows:
        note(
            f"it was recorded at {header.columns}x{header.rows};"
            f" this terminal has {columns}x{rows}, and may show it otherwise"
        )
