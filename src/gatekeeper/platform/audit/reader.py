"""Pages of the chain, and its export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import dict_row

from gatekeeper.kernel.audit import CHAIN
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.wire import audit as wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gatekeeper.platform.postgres.pool import Pool

_EVENTS: Final = """
SELECT seq, hash, canonical FROM gatekeeper.audit_event
WHERE seq > %(after)s AND (%(session)s::text IS NULL OR session_id = %(session)s)
ORDER BY seq LIMIT %(limit)s
"""

_CHECKPOINTS: Final = """
SELECT chain, size, head, at, key_id, signature FROM gatekeeper.audit_checkpoint
WHERE size > %(after)s ORDER BY size LIMIT %(limit)s
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
        rows = await self._rows(_CHECKPOINTS, {"after": seq - 1, "limit": 1})
        if not rows:
            return Refusal(
                code=ErrorCode.NOT_FOUND, detail=f"event {seq} is not in the signed chain"
            )
        checkpoint = _checkpoint(rows[0])
        events = await self.events(after=seq - 1, limit=checkpoint.size - seq + 1)
        return wire.Proof(event=events[0], links=tuple(events[1:]), checkpoint=checkpoint)

    async def export(self) -> AsyncIterator[str]:
        """Yield the whole chain as JSON lines: a header, events, and checkpoints last."""
        yield _line(
            wire.ExportHeader(format=wire.EXPORT_FORMAT, chain=CHAIN, public_key=self._public_key)
        )
        newest = await self.checkpoints(limit=1)
        size = newest[0].size if newest else 0
        after = 0
        while after < size:
            limit = min(wire.MAX_PAGE_EVENTS, size - after)
            page = await self.events(after=after, limit=limit)
            for event in page:
                yield _line(event)
            if not page:
                break
            after = page[-1].seq
        covered = 0
        while covered < size:
            rows = await self._rows(_CHECKPOINTS, {"after": covered, "limit": wire.MAX_PAGE_EVENTS})
            for checkpoint in (_checkpoint(row) for row in rows):
                if checkpoint.size <= size:
                    yield _line(checkpoint)
                covered = checkpoint.size

    async def _rows(self, query: LiteralString, values: dict[str, object]) -> list[dict[str, Any]]:
        async with self._pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(query, values)
            return await cursor.fetchall()


def _checkpoint(row: dict[str, Any]) -> wire.CheckpointView:
    return wire.CheckpointView(**row)


def _line(model: wire.ExportHeader | wire.EventView | wire.CheckpointView) -> str:
    return model.model_dump_json(by_alias=True) + "\n"
