"""What happened to a terminal, numbered from 1, and told until the control plane has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.wire.runner import MAX_REPORTED, StageEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.wire.runner import TerminalEvent

MAX_KEPT: Final = 10_000
"""Events that nobody took: a control plane may be away for long, but not for ever."""


@dataclass(frozen=True, slots=True)
class _Reached:
    """A stage, and when: how long ago that was is known when it is told."""

    stage: str
    at: float


class Ledger:
    """The events of one terminal. `wake` is called when there is a new one."""

    def __init__(self, now: Callable[[], float], wake: Callable[[], None]) -> None:
        self._now = now
        self._wake = wake
        self._events: list[TerminalEvent | _Reached] = []
        self._first = 1

    @property
    def waiting(self) -> bool:
        return bool(self._events)

    def reached(self, stage: str) -> None:
        self._add(_Reached(stage, self._now()))

    def note(self, event: TerminalEvent) -> None:
        self._add(event)

    def tell(self, most: int) -> tuple[int, tuple[TerminalEvent, ...]]:
        """Return the number of the first event that nobody took, and what is to be told."""
        events = self._events[: min(most, MAX_REPORTED)]
        return self._first, tuple(map(self._told, events))

    def taken(self, last: int) -> None:
        """Forget what the control plane has: every event up to this number."""
        count = min(max(last - self._first + 1, 0), len(self._events))
        del self._events[:count]
        self._first += count

    def _add(self, event: TerminalEvent | _Reached) -> None:
        if len(self._events) < MAX_KEPT:
            self._events.append(event)
        else:
            self._events[-1] = event  # the newest is how it ended
        self._wake()

    def _told(self, event: TerminalEvent | _Reached) -> TerminalEvent:
        if isinstance(event, _Reached):
            return StageEvent(stage=event.stage, seconds_ago=max(self._now() - event.at, 0.0))
        return event
