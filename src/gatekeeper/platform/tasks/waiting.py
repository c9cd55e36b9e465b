"""Tasks of this process that wait for something to be said, each under a name of its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Waiting:
    """Wakes those who wait; whether it was for nothing is for them to see."""

    def __init__(self) -> None:
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def woken(self, name: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever `name` is woken while the block lasts."""
        event = asyncio.Event()
        self._events[name].add(event)
        try:
            yield event
        finally:
            self._events[name].discard(event)
            if not self._events[name]:
                del self._events[name]

    def wake(self, name: str | None) -> None:
        """Wake whoever waits under this name; None wakes everyone."""
        for key in list(self._events) if name is None else [name]:
            for event in self._events.get(key, ()):
                event.set()


async def within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for an event for so long at most; None: for ever. False when it did not come."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
