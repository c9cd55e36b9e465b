"""The outbox: an event is committed with the change it tells of, or neither is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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


async def record(connection: AsyncConnection, *events: AuditEvent) -> None:
    """Write events in the caller's transaction; the sequencer gives them their place."""
    if events:
        fields = [Jsonb(event.fields()) for event in events]
        await connection.execute(_RECORD, (fields, CHANNEL))
