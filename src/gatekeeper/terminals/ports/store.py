"""The store: terminals, their jobs and their evidence, changed in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta

    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.kernel.errors import Failure
    from gatekeeper.kernel.ids import SessionId, TerminalId
    from gatekeeper.kernel.session import SessionStatus
    from gatekeeper.terminals.model import (
        Ended,
        Share,
        Stage,
        Terminal,
        TerminalChange,
        TerminalFilter,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """What a runner says of itself. `boot` names one life of its process."""

    name: str
    boot: str
    sandbox: str
    capacity: int


class TerminalClaim(Protocol):
    """A job that this process holds; a transaction can end it together with its effect."""

    @property
    def terminal(self) -> TerminalId: ...


class RunnerClaim(Protocol):
    """The job that looks after a runner, held by this process."""

    @property
    def runner(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of a terminal to another status, and what becomes known with it."""

    terminal: Terminal
    to: SessionStatus
    expires_at: datetime | None = None
    address: str | None = None
    sandbox: str | None = None
    ended: Ended | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueRecording:
    """A recording whose time is over, and where its hash chain stands in the evidence."""

    terminal: Terminal
    segments: int
    head: str | None


class TerminalUnit(Protocol):
    """One transaction over terminals, their jobs and their evidence: all of it, or none."""

    async def now(self) -> datetime:
        """Return the store's clock: the one clock that decides when a terminal ends."""
        ...

    async def claim_key(
        self, requester: str, key: str, body_sha256: str, terminal: TerminalId
    ) -> tuple[str, TerminalId] | None: ...

    async def count_open(self, requester: str) -> int: ...

    async def count_running(self, runner: str) -> int:
        """Count what takes a runner's places, holding off other launches until the end."""
        ...

    async def queue_place(self, terminal: TerminalId) -> int | None:
        """Return how many are to be started before this one (0: it is next); None: not queued.

        Fair: one requester's n-th waiting terminal stands behind everybody's (n-1)-th.
        """
        ...

    async def count_waiting(self, runner: str) -> int:
        """Count what waits for a place, holding off other requests until the end."""
        ...

    async def next_waiting(self, runner: str, most: int) -> Sequence[Terminal]:
        """Return those that are to be started next, in their order."""
        ...

    async def add(self, terminal: Terminal) -> Terminal: ...

    async def lock(self, terminal: TerminalId) -> Terminal | None: ...

    async def move(self, move: Move) -> Terminal:
        """Change the status, stamp the time of it, and tell watchers and gateways.

        Raises `IntegrityError` for a move that is not in the kernel's table.
        """
        ...

    async def stamp(self, terminal: TerminalId, stages: Mapping[Stage, datetime]) -> None:
        """Note when stages were reached; the first word about each stands."""
        ...

    async def bind(self, terminal: Terminal, session: SessionId) -> Terminal: ...

    async def note_error(self, terminal: Terminal, error: Failure) -> Terminal: ...

    async def note_ended(self, terminal: Terminal, ended: Ended) -> Terminal: ...

    async def note_taken(self, terminal: TerminalId, last: int) -> None:
        """Note the number of the last event of its runner that was applied."""
        ...

    async def overdue_recordings(
        self, terminals: Sequence[TerminalId], keep: timedelta
    ) -> Sequence[OverdueRecording]:
        """Lock, of these, those that are proven gone, ended before `keep` ago, and are not noted
        as deleted. One that another transaction holds is passed over.
        """
        ...

    async def note_deleted(self, terminals: Sequence[TerminalId]) -> Sequence[Terminal]:
        """Note that recordings are deleted, and forget the last screens."""
        ...

    async def deleted_recordings(self, terminals: Sequence[TerminalId]) -> Collection[TerminalId]:
        """Return, of these, those that are noted as deleted."""
        ...

    async def note_runner(self, runner: Runner) -> None: ...

    async def listen_for(self, runner: str, absence: timedelta) -> timedelta:
        """Note that somebody listens to a runner; return for how long it was not heard.

        Counted from its last report, or from when listening began where that was later. Where
        the last look is longer ago than `absence`, it begins now.
        """
        ...

    async def forget_runner(self, runner: str) -> None: ...

    async def add_share(self, share: Share, secret_sha256: str) -> None: ...

    async def record(self, *events: AuditEvent) -> None: ...

    async def schedule_launch(self, terminal: Terminal, at: datetime | None = None) -> None: ...

    async def schedule_end(self, terminal: Terminal, at: datetime) -> None:
        """Make, or move, the one job that ends a terminal."""
        ...

    async def schedule_listening(self, runner: str) -> None:
        """Make the one job that looks after a runner, or find that it is there."""
        ...

    async def epoch(self) -> str:
        """Return the epoch of the used tickets, beginning one where a crash left none."""
        ...

    async def settle(self, claim: TerminalClaim | RunnerClaim) -> bool:
        """End the job if, and only if, this transaction commits; False: it is no longer ours."""
        ...

    async def postpone(self, claim: TerminalClaim | RunnerClaim, at: datetime) -> None: ...

    async def abandon(self) -> None: ...


class TerminalStore(Protocol):
    """Where terminals live: PostgreSQL, never memory."""

    def transaction(self) -> AbstractAsyncContextManager[TerminalUnit]: ...

    async def take_token(self, requester: str, per_minute: int) -> float: ...

    async def find_key(self, requester: str, key: str) -> tuple[str, TerminalId] | None: ...

    async def get(self, terminal: TerminalId) -> Terminal | None: ...

    async def find(self, wanted: TerminalFilter) -> Sequence[Terminal]: ...

    async def on_runner(self, runner: str) -> Sequence[Terminal]:
        """Return every terminal that may still have something at the runner."""
        ...

    async def queue_place(self, terminal: TerminalId) -> int | None:
        """As of the unit, but of a moment: nothing is held off."""
        ...

    async def runner(self, name: str) -> Runner | None:
        """Return what a runner said of itself last."""
        ...

    async def find_share(self, secret_sha256: str) -> Share | None:
        """Return a share that is not over."""
        ...

    async def changes(
        self, after: tuple[int, int] | None, limit: int
    ) -> tuple[Sequence[TerminalChange], tuple[int, int]]:
        """Return changes after a cursor and the next cursor; None starts at the present."""
        ...

    async def forget_used_tickets(self) -> int:
        """Forget used tickets that nobody could use again; return how many."""
        ...
