"""All joined pairs of one process, and the one timer that looks after them.

A wheel of slots: each session stands in the slot of its next look, and only what is due is
touched. Thousands of timers, or a walk over all, would cost memory or stall the loop.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from gatekeeper.terminals.gateway.counting import Counters

TICK_SECONDS: Final = 0.25
READ_BYTES: Final = 131_072
"""At a time, and the most that waits in this process for a peer that takes no more."""


class Session(Protocol):
    """One joined pair, as it is looked after."""

    slot: int
    """Where in the wheel it stands; its own business it is not."""
    deadline: float

    @property
    def terminal(self) -> str: ...

    def look(self, now: float) -> None:
        """Do what is due."""
        ...

    def cut(self, code: int, reason: str) -> None:
        """End it with a close."""
        ...

    def cut_after(self, seconds: float, code: int, reason: str) -> None: ...

    def give_up(self) -> None:
        """End it at once."""
        ...


class Sessions:
    def __init__(
        self, counters: Counters, loop: asyncio.AbstractEventLoop, *, ping_seconds: float
    ) -> None:
        self.counters = counters
        self.loop = loop
        self.buffer = memoryview(bytearray(READ_BYTES))
        """What all of them are read into: each read is passed on before the next."""
        self.look_seconds = ping_seconds / 2
        """A ping is sent at a look when nothing was sent since the one before."""
        self._tick_seconds = min(TICK_SECONDS, self.look_seconds / 2)
        self._of: dict[str, set[Session]] = {}
        self._wheel: dict[int, set[Session]] = {}
        self._turned = self._slot(loop.time())
        self._timer = loop.call_later(self._tick_seconds, self._turn)

    def __len__(self) -> int:
        return self.counters.open

    def add(self, session: Session) -> None:
        self._of.setdefault(session.terminal, set()).add(session)
        self.counters.open += 1
        self.look_at(session, self.loop.time() + self.look_seconds)

    def discard(self, session: Session) -> None:
        here = self._of.get(session.terminal)
        if here is None or session not in here:
            return
        here.remove(session)
        if not here:
            del self._of[session.terminal]
        self.counters.open -= 1
        self._leave_slot(session)

    def terminals(self) -> list[str]:
        return list(self._of)

    def of(self, terminal: str) -> Iterable[Session]:
        return tuple(self._of.get(terminal, ()))

    def all(self) -> Iterable[Session]:
        return [session for here in self._of.values() for session in here]

    def look_at(self, session: Session, when: float) -> None:
        """Have a session looked at by then, or by its deadline."""
        self._leave_slot(session)
        slot = max(self._slot(min(when, session.deadline)), self._turned + 1)
        session.slot = slot
        self._wheel.setdefault(slot, set()).add(session)

    def close(self) -> None:
        self._timer.cancel()

    def _slot(self, when: float) -> int:
        return math.ceil(when / self._tick_seconds)

    def _leave_slot(self, session: Session) -> None:
        stand = self._wheel.get(session.slot)
        if stand is not None:
            stand.discard(session)
            if not stand:
                del self._wheel[session.slot]

    def _turn(self) -> None:
        self._timer = self.loop.call_later(self._tick_seconds, self._turn)
        now = self.loop.time()
        last = math.floor(now / self._tick_seconds)
        due = [
            session
            for slot in range(self._turned + 1, last + 1)
            for session in self._wheel.pop(slot, ())
        ]
        self._turned = max(self._turned, last)
        for session in due:
            session.look(now)
