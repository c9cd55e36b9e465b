"""Recordings are deleted when their time is over, and what the others hold is counted.

That one is deleted is noted, with its event, in one transaction; its files go after that. What
is left of it, because this process was killed or a disk did not obey, is found by the next look:
the folder itself says what is there. Nothing is deleted that lives, or that a runner may have
more to tell of.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.audit import SYSTEM, AuditKind
from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.kernel.terminal.recording import FIRST_HEAD
from gatekeeper.terminals.evidence import terminal_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import (
        HeldRecording,
        OverdueRecording,
        Recordings,
        TerminalStore,
        TerminalUnit,
    )

log = structlog.get_logger("gatekeeper.terminals")

PAUSE_SECONDS: Final = 0.25
"""After some were deleted: the sequencer and the disk have other things to do as well."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found and did."""

    bytes: int = 0
    """Of all recordings that are there now."""
    deleted: int = 0
    overdue: int = 0
    """Recordings whose time is over, and which are there still."""

    def __add__(self, other: Looked) -> Looked:
        return Looked(
            self.bytes + other.bytes, self.deleted + other.deleted, self.overdue + other.overdue
        )


class Retention:
    """Looks at all recordings. `keep` counts from a terminal's end; None: for ever."""

    def __init__(
        self,
        *,
        store: TerminalStore,
        recordings: Recordings,
        keep: timedelta | None,
        looked: Callable[[Looked], None] = lambda _looked: None,
    ) -> None:
        self._store = store
        self._recordings = recordings
        self._keep = keep
        self._looked = looked

    async def look(self) -> None:
        """Look once. Several processes may do so at a time."""
        total = Looked()
        async for held in self._recordings.held():
            found = await self._look_at(held)
            total += found
            if found.deleted:
                await asyncio.sleep(PAUSE_SECONDS)
        if total.overdue:
            log.warning("recordings are kept beyond their time", count=total.overdue)
        self._looked(total)

    async def _look_at(self, held: Sequence[HeldRecording]) -> Looked:
        sizes = {one.terminal: one.bytes for one in held}
        async with self._store.transaction() as unit:
            unproven = 0 if self._keep is None else await _give_up(unit, sizes, self._keep)
            given_up = await unit.deleted_recordings(list(sizes))
        deleted = [terminal for terminal in given_up if await self._delete(terminal)]
        left = sum(sizes.values()) - sum(sizes[terminal] for terminal in deleted)
        return Looked(left, len(deleted), unproven + len(given_up) - len(deleted))

    async def _delete(self, terminal: TerminalId) -> bool:
        try:
            await self._recordings.delete(terminal)
        except UnavailableError as error:
            log.warning("a recording is not deleted yet", terminal=terminal, error=error.detail)
            return False
        return True


async def _give_up(unit: TerminalUnit, sizes: Mapping[TerminalId, int], keep: timedelta) -> int:
    """Note which recordings are deleted, with the evidence of it; return how many may not be."""
    overdue = await unit.overdue_recordings(list(sizes), keep)
    proven = {one.terminal.id: one for one in overdue if _is_proven(one)}
    if proven:
        noted = await unit.note_deleted(list(proven))
        events = (_event(t, proven[t.id], sizes[t.id], keep) for t in noted)
        await unit.record(*events)
    return len(overdue) - len(proven)


def _is_proven(one: OverdueRecording) -> bool:
    """Tell whether the evidence has all that it will ever have of a recording.

    One of which no head was told was its runner's that is gone, or that could not write: what the
    evidence has of it is all that there is to come.
    """
    ended = one.terminal.ended
    head = None if ended is None else ended.recording_head
    return head in {None, FIRST_HEAD, one.head}


def _event(terminal: Terminal, was: OverdueRecording, size: int, keep: timedelta) -> AuditEvent:
    assert terminal.recording_deleted_at is not None  # noqa: S101  # noted just now
    return terminal_event(
        AuditKind.TERMINAL_RECORDING_DELETED,
        terminal,
        at=terminal.recording_deleted_at,
        actor=SYSTEM,
        reason="retention",
        keptDays=keep.days,
        head=was.head,
        segments=was.segments,
        bytes=size,
    )
