"""Where terminals run: one machine, or one cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.terminals.model import Ended, Profile, Size, Terminal
    from gatekeeper.terminals.ports.logins import BoundLogin


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a launcher is to start. `seconds_left` counts from when the launcher hears of it."""

    terminal: Terminal
    profile: Profile
    seconds_left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """The terminal takes clients. `signed` is the launcher's receipt, for the evidence."""

    instance: str
    address: str
    """Where a gateway finds it: `unix:/path` or `tcp:host:port`."""
    sandbox: str
    """The tier that holds it: `bubblewrap`, `landlock`, `job` or `none`."""
    already: bool
    """An earlier try had started it."""
    verifier: str | None
    """A SCRAM verifier, when the terminal is to have a database login: its password was made
    where it will be used."""
    signed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The proof that nothing of a terminal is left: no process, no mount, no socket."""

    existed: bool
    gone: bool
    processes_ended: int
    ended: Ended | None
    """How it had ended, where the launcher still knows."""
    left: tuple[str, ...] = ()
    signed: str = ""
    """The launcher's receipt; empty where none was asked."""


class Launcher(Protocol):
    """Starts and ends terminals in one place: one machine, or one cluster.

    Every method may raise `GatekeeperError`; `retryable` says whether to try again. A call that
    failed may still have been carried out: all are safe to repeat. None checks who asks.
    """

    @property
    def capacity(self) -> int:
        """How many terminals it holds at a time."""
        ...

    async def launch(self, launch: Launch) -> Launched:
        """Start a terminal, or find that an earlier try did.

        A terminal that was ended here is never started again: that raises.
        """
        ...

    async def end(self, terminal: TerminalId, instance: str, why: str) -> Gone:
        """End a terminal and prove it. One that was never here is gone: that is success."""
        ...

    async def bind(self, terminal: TerminalId, instance: str, login: BoundLogin) -> None:
        """Hand a database login to the terminal."""
        ...

    async def send_input(self, terminal: TerminalId, instance: str, data: str) -> None: ...

    async def screen(self, terminal: TerminalId, instance: str) -> tuple[Sequence[str], Size]:
        """Return the lines that are to be seen now, or were at its end.

        Raises `NOT_FOUND` for one that is not here: whoever held it is gone.
        """
        ...

    async def wait_for_text(
        self, terminal: TerminalId, instance: str, pattern: str, seconds: float
    ) -> bool:
        """Wait until the screen, or what was written since the call, has this text."""
        ...

    async def close(self) -> None: ...
