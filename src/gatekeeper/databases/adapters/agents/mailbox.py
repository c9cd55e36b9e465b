"""Messages to agents that ask for them, and the answers: kept in the store.

The process that waits for an answer and the process that is polled need not be the
same one: both look at one table, and notifications only say *look again*.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, LiteralString, NoReturn

from gatekeeper.kernel.errors import ErrorCode, UnavailableError
from gatekeeper.platform.crypto.envelope import REPLAYABLE
from gatekeeper.platform.tasks import Waiting, within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from psycopg.rows import TupleRow

    from gatekeeper.platform.postgres.pool import Pool

CHANNEL: Final = "gatekeeper_agent_mail"
FETCH_SECONDS: Final = 5.0
"""How long a message waits for its agent to ask: what connecting is to an agent that listens."""
LEASE_SECONDS: Final = 10.0
"""A message that was fetched and is not answered in this time is handed out again.

An agent that still works on it refuses it as seen before; one that was restarted does it anew.
"""
POLL_SECONDS: Final = 20.0
"""How long a poll waits for a message: proxies commonly end a silent request after 60 s."""
LOOK_AGAIN_SECONDS: Final = 1.0
"""How long a waiter trusts silence; also how late an ended lease is noticed."""
CLEAN_SECONDS: Final = 30.0
CLEAN_ROWS: Final = 1000
"""Rows taken away in one transaction."""
MOST_POLLS: Final = 16
"""Polls of one agent that wait at a time in this process: each costs the store a look a second.
An agent sends one after the other, and each copy of it that runs beside it one more."""

_POST: Final = """
WITH posted AS (
    INSERT INTO gatekeeper.agent_mail (message_id, agent, envelope, expires_at)
    VALUES (%(message)s, %(agent)s, %(envelope)s,
            clock_timestamp() + make_interval(secs => %(seconds)s))
    RETURNING 1)
SELECT pg_notify(%(channel)s, 'to ' || %(agent)s) FROM posted
"""
_FETCH: Final = """
UPDATE gatekeeper.agent_mail
SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE message_id = (
    SELECT message_id FROM gatekeeper.agent_mail
    WHERE agent = %(agent)s AND answer IS NULL AND expires_at > clock_timestamp()
      AND (lease_until IS NULL OR lease_until <= clock_timestamp())
    ORDER BY posted_at LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING envelope
"""
_ANSWER: Final = """
WITH answered AS (
    UPDATE gatekeeper.agent_mail SET answer = %(answer)s
    WHERE message_id = %(message)s AND agent = %(agent)s AND answer IS NULL
    RETURNING 1)
SELECT pg_notify(%(channel)s, 're ' || %(message)s) FROM answered
"""
_LOOK: Final = """
SELECT answer, lease_until IS NOT NULL FROM gatekeeper.agent_mail WHERE message_id = %s
"""
_FORGET: Final = "DELETE FROM gatekeeper.agent_mail WHERE message_id = %s"
_REMEMBER: Final = """
INSERT INTO gatekeeper.agent_poll (message_id) VALUES (%s) ON CONFLICT DO NOTHING
"""
_CLEAN_MAIL: Final = """
DELETE FROM gatekeeper.agent_mail WHERE message_id IN (
    SELECT message_id FROM gatekeeper.agent_mail WHERE expires_at < clock_timestamp()
    LIMIT %s FOR UPDATE SKIP LOCKED)
"""
_CLEAN_POLLS: Final = """
DELETE FROM gatekeeper.agent_poll WHERE message_id IN (
    SELECT message_id FROM gatekeeper.agent_poll WHERE seen_at < clock_timestamp() - %s
    LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class Mailbox:
    """One store's mailbox, seen by one process; `heard` is told of every notification."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting = Waiting()
        self._polls = Counter[str]()
        self._closing = False

    def heard(self, payload: str | None) -> None:
        """Wake whoever waits for this; None wakes everyone."""
        self._waiting.wake(payload)

    def close(self) -> None:
        """End every poll, so the server can stop."""
        self._closing = True
        self.heard(None)

    async def exchange(self, agent: str, message: str, envelope: str, *, seconds: float) -> str:
        """Leave a message, and wait until the agent has fetched and answered it.

        Raises `UnavailableError` (AGENT_UNREACHABLE) when it does not in time.
        """
        with self._waiting.woken(f"re {message}") as woken:
            await self._run(
                _POST,
                message=message,
                agent=agent,
                envelope=envelope,
                seconds=seconds,
                channel=CHANNEL,
            )
            try:
                return await self._answered(message, woken, seconds)
            finally:
                await self._forget(message)

    @contextmanager
    def place(self, agent: str) -> Iterator[bool]:
        """Take a place to wait in; False when the agent has taken all of its own."""
        free = self._polls[agent] < MOST_POLLS
        self._polls[agent] += free
        try:
            yield free
        finally:
            self._polls[agent] -= free

    async def fetch(self, agent: str, gone: Callable[[], Awaitable[bool]]) -> str | None:
        """Lease the oldest message of an agent, or wait for one; None when none came in time.

        Nothing is leased for a caller who went away meanwhile.
        """
        deadline = asyncio.get_running_loop().time() + POLL_SECONDS
        with self._waiting.woken(f"to {agent}") as woken:
            while not self._closing and not await gone():
                woken.clear()
                leased = await self._run(_FETCH, agent=agent, lease=LEASE_SECONDS)
                left = deadline - asyncio.get_running_loop().time()
                if leased is not None:
                    return str(leased[0])
                if left <= 0:
                    return None
                await within(woken, min(left, LOOK_AGAIN_SECONDS))
        return None

    async def answer(self, agent: str, message: str, answer: str) -> bool:
        """Answer a message of this agent; False when nobody waits for it any more."""
        done = await self._run(
            _ANSWER, message=message, agent=agent, answer=answer, channel=CHANNEL
        )
        return done is not None

    async def first_time(self, poll: str) -> bool:
        """Remember a poll, for all processes of the store; False when it was seen before."""
        async with self._pool.connection() as connection:
            return (await connection.execute(_REMEMBER, (poll,))).rowcount == 1

    async def run(self) -> None:
        """Take away what nobody waits for any more, until cancelled."""
        while True:
            with suppress(UnavailableError):
                await self.clean()
            await asyncio.sleep(CLEAN_SECONDS)

    async def clean(self) -> None:
        await self._clean(_CLEAN_MAIL, CLEAN_ROWS)
        await self._clean(_CLEAN_POLLS, REPLAYABLE, CLEAN_ROWS)

    async def _clean(self, query: LiteralString, *values: object) -> None:
        """Take away all there is: what many have brought must not outgrow one that cleans."""
        taken = CLEAN_ROWS
        while taken == CLEAN_ROWS:
            async with self._pool.connection() as connection:
                taken = (await connection.execute(query, values)).rowcount

    async def _answered(self, message: str, woken: asyncio.Event, seconds: float) -> str:
        began = asyncio.get_running_loop().time()
        fetched = False
        while True:
            waited = asyncio.get_running_loop().time() - began
            left = (seconds if fetched else min(seconds, FETCH_SECONDS)) - waited
            if left <= 0:
                _unreachable("did not answer in time" if fetched else "did not ask for its jobs")
            await within(woken, min(left, LOOK_AGAIN_SECONDS))
            woken.clear()
            answer, fetched = await self._look(message)
            if answer is not None:
                return answer

    async def _look(self, message: str) -> tuple[str | None, bool]:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_LOOK, (message,))).fetchone()
        if row is None:
            _unreachable("was not asked: the store lost the message")
        return row[0], row[1]

    async def _forget(self, message: str) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(_FORGET, (message,))

    async def _run(self, query: LiteralString, **values: object) -> TupleRow | None:
        async with self._pool.connection() as connection:
            return await (await connection.execute(query, values)).fetchone()


def _unreachable(what: str) -> NoReturn:
    msg = f"the agent {what}"
    raise UnavailableError(msg, ErrorCode.AGENT_UNREACHABLE)
