"""How many requests somebody may make in a minute: a bucket of tokens each, in the store.

The planes draw from the same bucket: what is asked of one is not free at the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.platform.postgres.rows import one

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_DRAW: Final = """
INSERT INTO gatekeeper.rate_bucket AS b (requester, tokens, updated_at)
VALUES (%(requester)s, %(most)s - 1, clock_timestamp())
ON CONFLICT (requester) DO UPDATE SET
    tokens = least(%(most)s, b.tokens
        + extract(epoch FROM clock_timestamp() - b.updated_at) * %(most)s / 60.0) - 1,
    updated_at = clock_timestamp()
WHERE least(%(most)s, b.tokens
        + extract(epoch FROM clock_timestamp() - b.updated_at) * %(most)s / 60.0) >= 1
RETURNING 0.0 AS wait
"""

_NEXT_DRAW: Final = """
SELECT greatest(0.001, (1 - tokens) * 60.0 / %(most)s
    - extract(epoch FROM clock_timestamp() - updated_at))::float8 AS wait
FROM gatekeeper.rate_bucket WHERE requester = %(requester)s
"""


async def take_token(connection: AsyncConnection, requester: str, per_minute: int) -> float:
    """Take one token of the requester's bucket; return 0, or how many seconds to wait."""
    values = {"requester": requester, "most": float(per_minute)}
    if await one(connection, _DRAW, values) is not None:
        return 0.0
    row = await one(connection, _NEXT_DRAW, values)
    return float(row["wait"]) if row is not None else 1.0
