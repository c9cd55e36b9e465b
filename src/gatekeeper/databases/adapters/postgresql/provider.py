"""The `DatabaseProvider` port on PostgreSQL, over the helpers in schema `gk`.

What may be done is checked by the helpers, in the database; this adapter calls them
in the right order and believes nothing it has not read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.databases.adapters.postgresql.doctor import examine
from gatekeeper.databases.adapters.postgresql.helpers import Helpers
from gatekeeper.databases.adapters.postgresql.revocation import Revocation
from gatekeeper.databases.adapters.postgresql.translate import translated
from gatekeeper.databases.model import (
    Check,
    CreateUser,
    ManagedUser,
    ObjectPolicy,
    UserCreated,
    UserRevoked,
)
from gatekeeper.kernel.ids import RoleName
from gatekeeper.platform.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from gatekeeper.databases.adapters.postgresql.helpers import Row
    from gatekeeper.kernel.errors import Failure
    from gatekeeper.kernel.secret import Secret

ISSUE_CONNECTIONS: Final = 8
CLEANUP_CONNECTIONS: Final = 8
"""Two pools: however many logins end at once, none of their connections is for issuing."""


class PostgreSQLProvider:
    """One target, reached as `gk_agent`, which can call the helpers and nothing else."""

    def __init__(self, dsn: Secret) -> None:
        self._issue = Helpers(dsn, name="gk-agent-issue", connections=ISSUE_CONNECTIONS)
        self._cleanup = Helpers(dsn, name="gk-agent-cleanup", connections=CLEANUP_CONNECTIONS)

    async def create_ephemeral_user(self, request: CreateUser) -> UserCreated:
        (row,) = await self._issue.patiently(
            "SELECT * FROM gk.create_login(%s, %s, %s, %s)",
            request.username,
            request.verifier,
            request.role,
            request.ttl,
        )
        return UserCreated(username=request.username, **row)

    async def revoke_users(
        self, usernames: Sequence[RoleName], objects: ObjectPolicy
    ) -> tuple[UserRevoked | Failure, ...]:
        return await Revocation(self._cleanup, usernames, objects).run()

    async def extend_user(self, username: RoleName, ttl: timedelta) -> UserCreated:
        (row,) = await self._issue.patiently("SELECT * FROM gk.extend_login(%s, %s)", username, ttl)
        return UserCreated(username=username, already_existed=True, **row)

    async def list_overdue_users(self, grace: timedelta) -> tuple[RoleName, ...]:
        rows = await self._cleanup.rows("SELECT gk.overdue_logins(%s) AS name", grace)
        return tuple(RoleName(row["name"]) for row in rows)

    async def forget_ended(self, older: timedelta) -> int:
        row = await self._cleanup.row("SELECT gk.forget_ended(%s) AS forgotten", older)
        return int(row["forgotten"])

    async def list_managed_users(self) -> tuple[ManagedUser, ...]:
        rows = await self._cleanup.rows("SELECT * FROM gk.list_logins() ORDER BY username")
        return tuple(_managed(row) for row in rows)

    async def doctor(self) -> tuple[Check, ...]:
        with translated():
            async with self._cleanup.connection() as connection:
                return await examine(connection, now=SystemClock().now())

    async def health(self) -> None:
        await self._issue.row("SELECT 1 AS one")

    async def close(self) -> None:
        await self._issue.close()
        await self._cleanup.close()


def _managed(row: Row) -> ManagedUser:
    ends = row["expires_at"]
    return ManagedUser(
        username=RoleName(row["username"]),
        can_login=row["can_login"],
        expires_at=ends,
        backends=row["backends"],
        packs=frozenset(row["packs"]),
        drift=tuple(row["drift"]),
    )
