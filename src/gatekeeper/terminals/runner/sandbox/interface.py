"""What a sandbox is asked for, what runs in it, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TierName = Literal["bubblewrap", "landlock", "none"]

HOME: Final = "/home/user"
"""Inside."""
WORK: Final = "/work"
"""Where a bundle is, inside."""
DOORS: Final = "/run/gatekeeper"
"""Where what the runner hands in is, inside."""
MAX_STEPS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to run. `environment` is complete: nothing is inherited but what a home needs."""

    terminal: str
    steps: tuple[tuple[str, ...], ...]
    """Argument lists, run one after the other on one terminal in one sandbox; one that fails
    ends it. The last is the command."""
    environment: Mapping[str, str]
    columns: int
    rows: int
    network: bool
    memory_bytes: int
    processes: int
    cpu_percent: int
    """Of one core."""
    disk_bytes: int
    work: Path | None
    """A folder that becomes `/work`, writable."""
    doors: Path
    """A folder that is seen as `/run/gatekeeper`: read-only inside, written by the runner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How what ran ended: one of `code` and `signal`, and which step it was (0: the first).

    Of a step before the last, `code` is the shell's word for it: 128 + n may be signal n.
    """

    code: int | None
    signal: int | None
    step: int


class Sandboxed(Protocol):
    """What runs. It is over when `wait` returns; then nothing of it is left."""

    @property
    def terminal_fd(self) -> int:
        """The master side of its terminal, non-blocking. Whoever reads it closes it."""
        ...

    @property
    def name(self) -> TierName: ...

    @property
    def uid(self) -> int:
        """Who it is for the host: the owner of files that it must read."""
        ...

    @property
    def steps_done(self) -> int:
        """How many steps ended well so far."""
        ...

    @property
    def complaint(self) -> str:
        """What the sandbox itself has to say: why it did not start, or was ended from outside."""
        ...

    def on_step(self, heard: Callable[[int], None]) -> None:
        """Call back with `steps_done` for every step that ended well, also those that have."""
        ...

    async def wait(self) -> Exit: ...

    async def end(self) -> int:
        """Kill everything inside, wait for proof, and return how many processes that were."""
        ...

    def left(self) -> tuple[str, ...]:
        """Tell what is still there; nothing: it is proven gone."""
        ...


class Sandbox(Protocol):
    """A tier."""

    @property
    def name(self) -> TierName: ...

    async def start(self, wanted: Wanted) -> Sandboxed:
        """Start it. Raises `SandboxUnavailableError` where that does not work."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReport:
    """One tier on this machine: whether it works, and what does not hold in it."""

    name: TierName
    works: bool
    detail: str
    gaps: tuple[str, ...] = ()
    """What this tier does not hold here."""
