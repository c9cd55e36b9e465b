"""What terminals are made with: folders, a sandbox, an environment, the steps to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.terminals.runner.sandbox import discard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatekeeper.terminals.model import Bundle
    from gatekeeper.terminals.runner.counting import Counters
    from gatekeeper.terminals.runner.parts import Door, Fetch
    from gatekeeper.terminals.runner.sandbox import Sandbox
    from gatekeeper.wire.runner import LaunchOrder

ENVIRONMENT: Final = {
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
"""Of every command. Nothing of the runner's own is inherited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a terminal has its things on this machine."""

    doors: Path
    work: Path
    """Where its bundle is unpacked."""
    recording: Path

    def make(self) -> None:
        self.doors.mkdir(mode=0o700, parents=True)
        # Made once: that it is there says, also after a restart, that the terminal was here.
        self.recording.mkdir(mode=0o700)

    def clear(self) -> None:
        """Remove all but the recording, also what a command made too deep to be walked."""
        discard(self.doors.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What every terminal of a runner uses."""

    sandbox: Sandbox
    fetch: Fetch
    counters: Counters
    redact: tuple[str, ...]
    wake: Callable[[], None]
    """Called when there is something to report."""
    timestamp: Callable[[], int]
    """Seconds of the Unix clock, for recordings."""


def steps(order: LaunchOrder, bundle: Bundle | None) -> tuple[tuple[str, ...], ...]:
    """Return what is to run, one after the other: the bundle's installation, the command."""
    command = ("/bin/sh", "-c", *order.command) if order.shell else order.command
    install = bundle.install if bundle else ()
    return (install, command) if install else (command,)


def environment(door: Door | None) -> dict[str, str]:
    return {**ENVIRONMENT, **(door.environment() if door else {})}
