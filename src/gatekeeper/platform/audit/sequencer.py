"""The sequencer: the one writer of the chain, whichever process it happens to run in.

Each batch is one transaction under one advisory lock: read the head, take what lies
in the outbox, link it, sign a checkpoint. A crash leaves either none of it or all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from psycopg.rows import tuple_row

from gatekeeper.kernel.audit import CHAIN, GENESIS, checkpoint_message, link, timestamp
from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.platform.audit.outbox import CHANNEL
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.tasks import within

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from gatekeeper.kernel.audit import ChainedEvent
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.secret import Secret
    from gatekeeper.platform.crypto.signing import SigningKey
    from gatekeeper.platform.postgres.pool import Pool

log = structlog.get_logger("gatekeeper.audit")

BATCH_EVENTS: Final = 2_000
PAUSE_SECONDS: Final = 0.05
"""Events wait for each other this long, so that one signature covers many."""
LOOK_AGAIN_SECONDS: Final = 2.0
_LOCK: Final = 0x61756469
"""The advisory lock of whoever appends ("audi" in ASCII)."""

_TAKE: Final = """
DELETE FROM gatekeeper.audit_outbox WHERE id IN (
    SELECT id FROM gatekeeper.audit_outbox ORDER BY id LIMIT %s)
RETURNING id, event
"""

_APPEND: Final = """
INSERT INTO gatekeeper.audit_event (seq, prev_hash, hash, canonical, kind, session_id, at)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::text[],
    %s::timestamptz[])
"""

_CHECKPOINT: Final = """
INSERT INTO gatekeeper.audit_checkpoint (size, chain, head, at, key_id, signature)
VALUES (%s, %s, %s, %s, %s, %s)
"""


class Sequencer:
    """Moves events from the outbox into the chain, in batches."""

    def __init__(self, *, pool: Pool, dsn: Secret, key: SigningKey, clock: Clock) -> None:
        self._pool = pool
        self._key = key
        self._clock = clock
        self._wake = asyncio.Event()
        self._listener = Listener(
            dsn, CHANNEL, lambda _payload: self._wake.set(), name="gk-sequencer"
        )

    async def run(self) -> None:
        """Sequence until cancelled. Any number may run: one at a time appends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listener.run(), name="audit: listen")
            group.create_task(self._loop(), name="audit: sequence")

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self.sequence() == BATCH_EVENTS:
                    pass
            except GatekeeperError as error:
                log.warning("the store does not answer", code=error.code)
            if await within(self._wake, LOOK_AGAIN_SECONDS):
                await asyncio.sleep(PAUSE_SECONDS)

    async def sequence(self) -> int:
        """Append one batch; return how many events it had."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            seq, head = await _head(connection)
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(_TAKE, (BATCH_EVENTS,))
            rows = []
            for _id, fields in sorted(await cursor.fetchall(), key=lambda row: row[0]):
                event = link(fields, seq=seq + 1, previous=head)
                rows.append(_row(event, head, fields))
                seq, head = event.seq, event.hash
            if rows:
                columns = [list(column) for column in zip(*rows, strict=True)]
                await cursor.execute(_APPEND, columns)
                await self._sign(connection, seq, head)
        return len(rows)

    async def _sign(self, connection: AsyncConnection, size: int, head: str) -> None:
        at = timestamp(self._clock.now())
        key_id = self._key.key_id
        message = checkpoint_message(chain=CHAIN, size=size, head=head, at=at, key_id=key_id)
        signature = self._key.sign(message).hex()
        await connection.execute(_CHECKPOINT, (size, CHAIN, head, at, key_id, signature))


def _row(event: ChainedEvent, previous: str, fields: dict[str, object]) -> tuple[object, ...]:
    return (
        event.seq,
        previous,
        event.hash,
        event.canonical,
        fields["kind"],
        fields["session"],
        fields["at"],
    )


async def _head(connection: AsyncConnection) -> tuple[int, str]:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute("SELECT seq, hash FROM gatekeeper.audit_event ORDER BY seq DESC LIMIT 1")
    row = await cursor.fetchone()
    return (0, GENESIS) if row is None else (row[0], row[1])
