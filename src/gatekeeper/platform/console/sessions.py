"""Who is signed in: sessions in the store, named by the hash of a secret that browsers hold."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from gatekeeper.kernel import base64url
from gatekeeper.kernel.audit import Actor, AuditEvent, AuditKind, Json
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.postgres.principals import principal_of, principal_values

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from psycopg import AsyncConnection

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.postgres.pool import Pool

ABSOLUTE: Final = timedelta(hours=8)
"""After this long people sign in again: what their issuer says of them may have changed."""
IDLE: Final = timedelta(hours=1)
SEEN_EVERY: Final = timedelta(minutes=1)
"""How exactly it is known when a session was used last; it spares a write at each request."""
SECRET_BYTES: Final = 32

_BEGIN: Final = """
INSERT INTO gatekeeper.console_session (cookie_sha256, principal, expires_at)
VALUES (%(name)s, %(principal)s, least(clock_timestamp() + %(most)s, %(until)s::timestamptz))
"""
_FORGET: Final = """
DELETE FROM gatekeeper.console_session
WHERE expires_at < clock_timestamp() OR seen_at < clock_timestamp() - %(idle)s
"""
_FIND: Final = """
SELECT principal, seen_at < clock_timestamp() - %(every)s
FROM gatekeeper.console_session
WHERE cookie_sha256 = %(name)s
  AND expires_at > clock_timestamp() AND seen_at > clock_timestamp() - %(idle)s
"""
_SEEN: Final = """
UPDATE gatekeeper.console_session SET seen_at = clock_timestamp() WHERE cookie_sha256 = %s
"""
_END: Final = "DELETE FROM gatekeeper.console_session WHERE cookie_sha256 = %s RETURNING principal"


class ConsoleSessions:
    """Begins, finds and ends sessions; each beginning and end is told to the evidence."""

    def __init__(
        self, *, pool: Pool, clock: Clock, random: Random, issuers: AbstractSet[str]
    ) -> None:
        """`issuers` are those believed now: a session of any other counts no more."""
        self._pool = pool
        self._clock = clock
        self._random = random
        self._issuers = issuers

    async def begin(
        self,
        principal: Principal,
        *,
        by: str,
        correlation_id: str,
        until: datetime | None = None,
        instead_of: str | None = None,
    ) -> str:
        """Return the secret of a new session, which may also end earlier: at `until`.

        `by` says how they signed in. The session that the browser had before ends.
        """
        secret = base64url.encode(self._random.bytes(SECRET_BYTES))
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_FORGET, {"idle": IDLE})
            if instead_of is not None:
                await self._end(connection, instead_of, correlation_id, because="signed in again")
            await connection.execute(
                _BEGIN,
                {
                    "name": _name(secret),
                    "principal": principal_values(principal),
                    "most": ABSOLUTE,
                    "until": until,
                },
            )
            await self._tell(
                connection, AuditKind.CONSOLE_SIGNED_IN, principal, correlation_id, by=by
            )
        return secret

    async def find(self, secret: str) -> Principal | None:
        """Return whose session it is, while it lasts."""
        name = _name(secret)
        async with self._pool.connection() as connection:
            found = await connection.execute(
                _FIND, {"name": name, "every": SEEN_EVERY, "idle": IDLE}
            )
            row = await found.fetchone()
            if row is None:
                return None
            stored, stale = cast("tuple[dict[str, Any], bool]", row)
            if stale:
                await connection.execute(_SEEN, (name,))
        principal = principal_of(stored)
        return principal if principal.issuer in self._issuers else None

    async def end(self, secret: str, correlation_id: str) -> None:
        """End a session; one that has ended is left as it is."""
        async with self._pool.connection() as connection, connection.transaction():
            await self._end(connection, secret, correlation_id, because="signed out")

    async def _end(
        self, connection: AsyncConnection, secret: str, correlation_id: str, *, because: str
    ) -> None:
        found = await connection.execute(_END, (_name(secret),))
        if (row := await found.fetchone()) is not None:
            principal = principal_of(cast("tuple[dict[str, Any]]", row)[0])
            await self._tell(
                connection,
                AuditKind.CONSOLE_SIGNED_OUT,
                principal,
                correlation_id,
                because=because,
            )

    async def _tell(
        self,
        connection: AsyncConnection,
        kind: AuditKind,
        principal: Principal,
        correlation_id: str,
        **data: Json,
    ) -> None:
        event = AuditEvent(
            kind=kind,
            at=self._clock.now(),
            actor=Actor.of(principal),
            plane="kernel",
            correlation_id=correlation_id,
            data={"issuer": principal.issuer, **data},
        )
        await outbox.record(connection, event)


def _name(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
