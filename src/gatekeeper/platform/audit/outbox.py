"""The outbox: an event is committed with the change it tells of, or neither is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from gatekeeper.kernel.audit import AuditEvent

CHANNEL: Final = "gatekeeper_audit"

_RECORD: Final = """
WITH recorded AS (
    INSERT INTO gatekeeper.audit_outbox (event)
    SELECT event FROM unnest(%s::jsonb[]) WITH ORDINALITY AS e (event, place) ORDER BY place)
SELECT pg_notify(%s, '')
"""


_BACKLOG: Final = """
SELECT coalesce((SELECT max(size) FROM gatekeeper.audit_checkpoint), 0) AS signed,
       count(*) AS waiting,
       coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at))::float8, 0) AS oldest
FROM gatekeeper.audit_outbox
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How long the signed chain is, how many events wait, and the oldest for how many seconds."""

    signed: int
    waiting: int
    oldest: float


async def record(connection: AsyncConnection, *events: AuditEvent) -> None:
    """Write events in the caller's transaction; the sequencer gives them their place."""
    if events:
        fields = [Jsonb(event.fields()) for event in events]
        await connection.execute(_RECORD, (fields, CHANNEL))


async def backlog(connection: AsyncConnection) -> Backlog:
    """Say how far the sequencer is behind."""
    cursor = connection.cursor(row_factory=class_row(Backlog))
    await cursor.execute(_BACKLOG)
    return cast("Backlog", await cursor.fetchone())
