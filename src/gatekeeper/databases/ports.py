"""What the database plane needs from the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import timedelta

    from gatekeeper.databases.model import (
        Check,
        CreateUser,
        ManagedUser,
        ObjectPolicy,
        UserCreated,
        UserRevoked,
    )
    from gatekeeper.kernel.ids import RoleName


class DatabaseProvider(Protocol):
    """One database server, seen by the agent.

    Every method may raise the errors of `databases.errors` and nothing else.
    None of them checks who asks: that was the control plane's work.
    """

    async def create_ephemeral_user(self, request: CreateUser) -> UserCreated:
        """Make the login, or find that an earlier try already did.

        Called twice with the same request, the second answer equals the first but
        for `already_existed`. A login that was already ended is never made again:
        that raises `TargetRefusedError`.
        """
        ...

    async def revoke_user(self, username: RoleName, objects: ObjectPolicy) -> UserRevoked:
        """End the login and prove it: off, backends gone, objects handled, dropped, re-read.

        A missing login is success. Safe to call again at any time, also while another
        call for the same login is under way.
        """
        ...

    async def extend_user(self, username: RoleName, ttl: timedelta) -> UserCreated:
        """Move the login's end to `ttl` from now on the target's clock."""
        ...

    async def list_managed_users(self) -> tuple[ManagedUser, ...]:
        """Return every login with our name pattern, with what drifted."""
        ...

    async def doctor(self) -> tuple[Check, ...]:
        """Check everything the target needs; each failure carries the statement that mends it."""
        ...

    async def health(self) -> None:
        """Return when the target answers a query; raise `TargetUnreachableError` otherwise."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
