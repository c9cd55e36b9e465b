"""Pages of the chain, and its export."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import dict_row

from gatekeeper.kernel.audit import CHAIN
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.wire import audit as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from gatekeeper.platform.postgres.pool import Pool

_EVENTS: Final = """
SELECT seq, hash, canonical FROM gatekeeper.audit_event
WHERE seq > %(after)s AND (%(session)s::text IS NULL OR session_id = %(session)s)
ORDER BY seq LIMIT %(limit)s
"""

_CHECKPOINTS: Final = """
SELECT chain, size, head, at, key_id, signature FROM gatekeeper.audit_checkpoint
WHERE size > %(after)s AND size <= %(upto)s ORDER BY size
"""

_NEXT: Final = """
SELECT chain, size, head, at, key_id, signature FROM gatekeeper.audit_checkpoint
WHERE size >= %(seq)s ORDER BY size LIMIT 1
"""

_NEWEST: Final = """
SELECT chain, size, head, at, key_id, signature FROM gatekeeper.audit_checkpoint
ORDER BY size DESC LIMIT %(limit)s
"""


class AuditReader:
    """Reads the evidence; changes nothing."""

    def __init__(self, pool: Pool, *, public_key: str) -> None:
        self._pool = pool
        self._public_key = public_key

    async def events(
        self, *, after: int, limit: int, session: str | None = None
    ) -> Sequence[wire.EventView]:
        rows = await self._rows(_EVENTS, {"after": after, "limit": limit, "session": session})
        return [
            wire.EventView(seq=r["seq"], hash=r["hash"], canonical=bytes(r["canonical"]).decode())
            for r in rows
        ]

    async def checkpoints(self, *, limit: int) -> Sequence[wire.CheckpointView]:
        """Return the newest checkpoints, newest first."""
        return [_checkpoint(row) for row in await self._rows(_NEWEST, {"limit": limit})]

    async def proof(self, seq: int) -> wire.Proof | Refusal:
        """Return what shows that an event is in the chain that was signed."""
        rows = await self._rows(_NEXT, {"seq": seq})
        if not rows:
            return Refusal(
                code=ErrorCode.NOT_FOUND, detail=f"event {seq} is not in the signed chain"
            )
        checkpoint = _checkpoint(rows[0])
        events = await self.events(after=seq - 1, limit=checkpoint.size - seq + 1)
        return wire.Proof(event=events[0], links=tuple(events[1:]), checkpoint=checkpoint)

    async def export(self) -> AsyncIterator[bytes]:
        """Yield the whole signed chain as JSON lines, some at a time.

        A header; then the events, and behind each that a checkpoint names, that checkpoint.
        """
        yield _line(
            wire.ExportHeader(format=wire.EXPORT_FORMAT, chain=CHAIN, public_key=self._public_key)
        )
        newest = await self.checkpoints(limit=1)
        size = newest[0].size if newest else 0
        after = 0
        while after < size:
            limit = min(wire.MAX_PAGE_EVENTS, size - after)
            rows = await self._rows(_EVENTS, {"after": after, "limit": limit, "session": None})
            # Events may be missing, and then the checkpoints over them must still be told.
            last = rows[-1]["seq"] if rows else size
            marks = await self._rows(_CHECKPOINTS, {"after": after, "upto": last})
            yield b"".join(_merged(rows, marks))
            after = last

    async def _rows(self, query: LiteralString, values: dict[str, object]) -> list[dict[str, Any]]:
        async with self._pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(query, values)
            return await cursor.fetchall()


def _checkpoint(row: dict[str, Any]) -> wire.CheckpointView:
    return wire.CheckpointView(**row)


def _merged(rows: list[dict[str, Any]], marks: list[dict[str, Any]]) -> Iterator[bytes]:
    waiting = deque(marks)
    for row in rows:
        yield wire.exported_event(row["seq"], row["hash"], bytes(row["canonical"]))
        while waiting and waiting[0]["size"] <= row["seq"]:
            yield _line(_checkpoint(waiting.popleft()))
    yield from (_line(_checkpoint(mark)) for mark in waiting)


def _line(model: wire.ExportHeader | wire.CheckpointView) -> bytes:
    return model.model_dump_json(by_alias=True).encode() + b"\n"
