"""Idempotency keys: what a caller's key was first used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gatekeeper.platform.postgres.rows import one

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import AsyncConnection

Id = TypeVar("Id", bound=str)


async def claim_key(
    connection: AsyncConnection, requester: str, key: str, body_sha256: str, made: str
) -> bool:
    """Bind a key to what is made under it; False: it is bound already."""
    cursor = await connection.execute(
        "INSERT INTO gatekeeper.idempotency_key (requester, key, body_sha256, session_id)"
        " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING key",
        (requester, key, body_sha256, made),
    )
    return await cursor.fetchone() is not None


async def bound_to_key(
    connection: AsyncConnection, requester: str, key: str, id_of: Callable[[str], Id]
) -> tuple[str, Id] | None:
    """Return the hash of the body that a key came with, and what was made of it."""
    row = await one(
        connection,
        "SELECT body_sha256, session_id FROM gatekeeper.idempotency_key"
        " WHERE requester = %(requester)s AND key = %(key)s",
        {"requester": requester, "key": key},
    )
    return None if row is None else (row["body_sha256"], id_of(row["session_id"]))
