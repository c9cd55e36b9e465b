"""Waiting for something with a life to change, and the stream of all changes.

Notifications only say *look again*: what is told comes from the store, so a missed one costs
a moment and never an event.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from starlette.responses import StreamingResponse

from gatekeeper.kernel.errors import ErrorCode, InputError, Refusal
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.http.problems import RefusedError
from gatekeeper.platform.tasks import Waiting, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

EVENTS_MEDIA_TYPE: Final = "text/event-stream"
LOOK_AGAIN_SECONDS: Final = 2.0
"""How long a waiter trusts silence."""
KEEP_ALIVE_SECONDS: Final = 15.0
"""A comment is sent this often, so proxies keep the stream open and dead ones are noticed."""
PAGE_CHANGES: Final = 200
MOST_STREAMS: Final = 20
"""Of one caller, in this process: each asks the store at every change of anybody's."""
MAX_XID: Final = 2**64 - 1
MAX_SEQ: Final = 2**63 - 1
"""What PostgreSQL has as xid8 and bigint."""
_ANY: Final = ""
"""What streams wait for."""


class Living(Protocol):
    """What is watched."""

    @property
    def id(self) -> str: ...

    @property
    def status(self) -> SessionStatus: ...


class Change(Protocol):
    """One step of it. `cursor` orders the steps of all."""

    @property
    def cursor(self) -> tuple[int, int]: ...

    @property
    def requester(self) -> str: ...


LivingT = TypeVar("LivingT", bound=Living)
ChangeT = TypeVar("ChangeT", bound=Change)


class Watch(Generic[LivingT, ChangeT]):
    """Lets requests wait.

    `look` reads one again; `changes` returns those after a cursor, and the next cursor; `shown`
    is the data of a change, as JSON, of events called `event`.
    """

    def __init__(
        self,
        *,
        event: str,
        look: Callable[[LivingT], Awaitable[LivingT | None]],
        changes: Callable[
            [tuple[int, int] | None, int], Awaitable[tuple[Sequence[ChangeT], tuple[int, int]]]
        ],
        shown: Callable[[ChangeT], str],
    ) -> None:
        self._event = event
        self._look = look
        self._changes = changes
        self._shown = shown
        self._waiting = Waiting()
        self._open = Counter[str]()
        self._closing = False

    def heard(self, name: str | None) -> None:
        """Wake whoever waits for the one of this id; None wakes everyone."""
        self._waiting.wake(name)
        self._waiting.wake(_ANY)

    def close(self) -> None:
        """End every stream, so the server can stop."""
        self._closing = True
        self.heard(None)

    async def until_settled(self, one: LivingT, *, seconds: float) -> LivingT:
        """Wait until it is no longer pending, or the time is over."""
        return await self._until(
            one, lambda o: o.status is not SessionStatus.PENDING, seconds=seconds
        )

    async def until_cleaned(self, one: LivingT, *, seconds: float) -> LivingT:
        """Wait until it is proven gone, or the time is over."""
        return await self._until(one, lambda o: o.status is SessionStatus.CLEANED, seconds=seconds)

    def answer(
        self, caller: str, requester: str | None, last_event_id: str | None
    ) -> StreamingResponse:
        """Stream changes to a caller (server-sent events).

        `requester` is whose changes they may see, None for everybody's; `last_event_id` says
        where to go on. Raises `InputError`, or `RefusedError` when too many are open already.
        """
        after = None if last_event_id is None else _read_event_id(last_event_id)
        if self._open[caller] >= MOST_STREAMS:
            detail = f"at most {MOST_STREAMS} streams of one caller are open at a time"
            raise RefusedError(
                Refusal(code=ErrorCode.RATE_LIMIT_EXCEEDED, detail=detail, retry_after=1.0)
            )
        return StreamingResponse(
            self._stream(caller, requester, after),
            media_type=EVENTS_MEDIA_TYPE,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _stream(
        self, caller: str, requester: str | None, after: tuple[int, int] | None
    ) -> AsyncIterator[str]:
        self._open[caller] += 1
        try:
            with self._waiting.woken(_ANY) as event:
                yield "retry: 1000\n\n"
                while not self._closing:
                    event.clear()
                    changes, after = await self._changes(after, PAGE_CHANGES)
                    for change in changes:
                        if requester is None or change.requester == requester:
                            yield self._server_sent_event(change)
                    if not changes and not await within(event, KEEP_ALIVE_SECONDS):
                        yield ": still here\n\n"
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    async def _until(
        self, one: LivingT, done: Callable[[LivingT], bool], *, seconds: float
    ) -> LivingT:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._waiting.woken(one.id) as event:
            while True:
                event.clear()
                one = await self._look(one) or one
                left = deadline - loop.time()
                if done(one) or left <= 0 or self._closing:
                    return one
                await within(event, min(left, LOOK_AGAIN_SECONDS))

    def _server_sent_event(self, change: ChangeT) -> str:
        """Format one event (WHATWG HTML, section 9.2)."""
        xid, seq = change.cursor
        return f"id: {xid}-{seq}\nevent: {self._event}\ndata: {self._shown(change)}\n\n"


def _read_event_id(text: str) -> tuple[int, int]:
    xid, _, seq = text.partition("-")
    numbers = xid.isascii() and xid.isdigit() and seq.isascii() and seq.isdigit()
    if not numbers or int(xid) > MAX_XID or int(seq) > MAX_SEQ:
        msg = "Last-Event-ID: expected the id of an event of this stream"
        raise InputError(msg)
    return int(xid), int(seq)
