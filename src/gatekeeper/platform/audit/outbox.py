"""The outbox: an event is committed with the change it tells of, or neither is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from gatekeeper.kernel.audit import AuditEvent

CHANNEL: Final = "gatekeeper_audit"


async def record(connection: AsyncConnection, *events: AuditEvent) -> None:
    """Write events in the caller's transaction; the sequencer gives them their place."""
    for event in events:
        await connection.execute(
            "INSERT INTO gatekeeper.audit_outbox (event) VALUES (%s)", (Jsonb(event.fields()),)
        )
    await connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
