"""`gk demo`: a tour of a main job, on real servers, told in plain words."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from gatekeeper.entrypoints.cli.caller import explaining
from gatekeeper.entrypoints.operate.tours.databases import tour_of_databases
from gatekeeper.entrypoints.operate.tours.telling import TourError, say
from gatekeeper.entrypoints.operate.tours.terminals import tour_of_terminals

FOLDER: Final = ".demo"


class Which(StrEnum):
    DATABASES = "databases"
    TERMINALS = "terminals"


_TOURS: Final = {Which.DATABASES: tour_of_databases, Which.TERMINALS: tour_of_terminals}


def demo(
    tour: Annotated[Which, typer.Argument(help="Which job to show.")] = Which.DATABASES,
    home: Annotated[
        Path, typer.Option(help="Folder for everything the demo makes; removed at the end.")
    ] = Path(FOLDER),
) -> None:
    """Show a job for real: a database login, or a terminal, gone at its time, and the proof.

    Needs nothing but this package. Takes about half a minute; leaves no process and no
    file behind.

    Example:  gk demo

    Example:  gk demo terminals
    """
    with explaining():
        raise typer.Exit(asyncio.run(_run(tour, home.absolute())))


async def _run(which: Which, home: Path) -> int:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)  # type: ignore[union-attr]
    began = time.monotonic()
    _make_room(home)
    try:
        await _TOURS[which](home)
    except TourError as error:
        say(f"\nThe tour stopped: {error}")
        return 1
    except asyncio.CancelledError:
        say("\nInterrupted: everything was stopped and removed.")
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)
    say(f"\nDone in {time.monotonic() - began:.0f} s. No process and no file was left behind.")
    say("To work with it: `make up` (or `gk up`) runs the same stack until Ctrl-C.")
    return 0


def _make_room(home: Path) -> None:
    """Take away what a demo that was killed left here; refuse a folder that is not a demo's."""
    marker = home / ".gatekeeper-demo"
    if home.exists() and any(home.iterdir()) and not marker.exists():
        say(f"{home} exists and is no demo folder; choose another with --home")
        raise typer.Exit(2)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.touch()
