"""Waiting for a terminal to change, and the stream of all changes.

Notifications only say *look again*: what is told comes from the store, so a missed one costs
a moment and never an event.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.tasks import Waiting, within
from gatekeeper.terminals.web import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gatekeeper.terminals.model import Terminal, TerminalChange
    from gatekeeper.terminals.ports import TerminalStore

LOOK_AGAIN_SECONDS: Final = 2.0
"""How long a waiter trusts silence."""
KEEP_ALIVE_SECONDS: Final = 15.0
"""A comment is sent this often, so proxies keep the stream open and dead ones are noticed."""
PAGE_CHANGES: Final = 200
MOST_STREAMS: Final = 20
"""Of one caller, in this process: each asks the store at every change of anybody's terminal."""
_ANY_TERMINAL: Final = ""
"""What streams wait for."""


class TerminalWatch:
    """Lets requests wait for changes of terminals."""

    def __init__(self, store: TerminalStore) -> None:
        self._store = store
        self._waiting = Waiting()
        self._open = Counter[str]()
        self._closing = False

    def heard(self, terminal: str | None) -> None:
        """Wake whoever waits for this terminal; None wakes everyone."""
        self._waiting.wake(terminal)
        self._waiting.wake(_ANY_TERMINAL)

    def close(self) -> None:
        """End every stream, so the server can stop."""
        self._closing = True
        self.heard(None)

    async def until_settled(self, terminal: Terminal, *, seconds: float) -> Terminal:
        """Wait until a terminal is no longer pending, or the time is over."""
        return await self._until(
            terminal, lambda t: t.status is not SessionStatus.PENDING, seconds=seconds
        )

    async def until_cleaned(self, terminal: Terminal, *, seconds: float) -> Terminal:
        """Wait until a terminal is proven gone, or the time is over."""
        return await self._until(
            terminal, lambda t: t.status is SessionStatus.CLEANED, seconds=seconds
        )

    def has_room(self, caller: str) -> bool:
        return self._open[caller] < MOST_STREAMS

    async def stream(
        self, caller: str, requester: str | None, after: tuple[int, int] | None
    ) -> AsyncIterator[str]:
        """Yield server-sent events; `requester` None is for those who see all."""
        self._open[caller] += 1
        try:
            with self._waiting.woken(_ANY_TERMINAL) as event:
                yield "retry: 1000\n\n"
                while not self._closing:
                    event.clear()
                    changes, after = await self._store.changes(after, PAGE_CHANGES)
                    for change in changes:
                        if requester is None or change.requester == requester:
                            yield _server_sent_event(change)
                    if not changes and not await within(event, KEEP_ALIVE_SECONDS):
                        yield ": still here\n\n"
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    async def _until(
        self, terminal: Terminal, done: Callable[[Terminal], bool], *, seconds: float
    ) -> Terminal:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._waiting.woken(terminal.id) as event:
            while True:
                event.clear()
                terminal = await self._store.get(terminal.id) or terminal
                left = deadline - loop.time()
                if done(terminal) or left <= 0 or self._closing:
                    return terminal
                await within(event, min(left, LOOK_AGAIN_SECONDS))


def _server_sent_event(change: TerminalChange) -> str:
    """Format one event (WHATWG HTML, section 9.2)."""
    data = translate.change_view(change).model_dump_json(by_alias=True)
    xid, seq = change.cursor
    return f"id: {xid}-{seq}\nevent: terminal\ndata: {data}\n\n"
