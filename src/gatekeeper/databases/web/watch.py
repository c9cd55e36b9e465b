"""Waiting for a session to change, and the stream of all changes.

Notifications only say *look again*: what is told comes from the store, so a
missed one costs a moment and never an event.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from gatekeeper.databases.web import translate
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.tasks import Waiting, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gatekeeper.databases.model import Session, SessionChange
    from gatekeeper.databases.ports import SessionStore

LOOK_AGAIN_SECONDS: Final = 2.0
"""How long a waiter trusts silence."""
KEEP_ALIVE_SECONDS: Final = 15.0
"""A comment is sent this often, so proxies keep the stream open and dead ones are noticed."""
PAGE_CHANGES: Final = 200
_ANY_SESSION: Final = ""
"""What streams wait for."""
MOST_STREAMS: Final = 20
"""Of one caller, in this process: each asks the store at every change of anybody's session."""


class SessionWatch:
    """Lets requests wait for changes of sessions."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._waiting = Waiting()
        self._open = Counter[str]()
        self._closing = False

    def heard(self, session: str | None) -> None:
        """Wake whoever waits for this session; None wakes everyone."""
        self._waiting.wake(session)
        self._waiting.wake(_ANY_SESSION)

    def close(self) -> None:
        """End every stream, so the server can stop."""
        self._closing = True
        self.heard(None)

    async def until_settled(self, session: Session, *, seconds: float) -> Session:
        """Wait until a session is no longer pending, or the time is over."""
        return await self._until(
            session, lambda s: s.status is not SessionStatus.PENDING, seconds=seconds
        )

    async def until_cleaned(self, session: Session, *, seconds: float) -> Session:
        """Wait until a session's login is proven gone, or the time is over."""
        return await self._until(
            session, lambda s: s.status is SessionStatus.CLEANED, seconds=seconds
        )

    def has_room(self, caller: str) -> bool:
        return self._open[caller] < MOST_STREAMS

    async def stream(
        self, caller: str, requester: str | None, after: tuple[int, int] | None
    ) -> AsyncIterator[str]:
        """Yield server-sent events; `requester` None is for those who see all."""
        self._open[caller] += 1
        try:
            with self._waiting.woken(_ANY_SESSION) as event:
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
        self, session: Session, done: Callable[[Session], bool], *, seconds: float
    ) -> Session:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._waiting.woken(session.id) as event:
            while True:
                event.clear()
                session = await self._store.get(session.id) or session
                left = deadline - loop.time()
                if done(session) or left <= 0 or self._closing:
                    return session
                await within(event, min(left, LOOK_AGAIN_SECONDS))


def _server_sent_event(change: SessionChange) -> str:
    """Format one event (WHATWG HTML, section 9.2)."""
    data = translate.session_event(change).model_dump_json(by_alias=True)
    xid, seq = change.cursor
    return f"id: {xid}-{seq}\nevent: session\ndata: {data}\n\n"
