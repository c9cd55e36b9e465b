"""The one fake of the `DatabaseProvider` port: a server in memory, with the promises of a real one.

`tests/contract/test_database_provider.py` runs the same suite on it and on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gatekeeper.databases.errors import TargetRefusedError, TargetUnreachableError
from gatekeeper.databases.model import (
    Check,
    CheckStatus,
    ManagedUser,
    ObjectPolicy,
    OwnedObjects,
    UserCreated,
    UserRevoked,
)
from gatekeeper.kernel import scram
from gatekeeper.kernel.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.databases.model import CreateUser
    from gatekeeper.kernel.ids import RoleName

PACKS = frozenset({"app_read", "app_write", "app_admin"})
MAX_TTL = timedelta(days=1)


@dataclass
class FakeLogin:
    """What the server knows of a login of ours."""

    verifier: str
    role: str
    expires_at: datetime
    can_login: bool = True
    objects: tuple[str, ...] = ()
    connections: int = 0
    drift: tuple[str, ...] = ()


@dataclass
class FakeProvider:
    """A server that tests can change.

    `reachable` False fails every call; `stuck` logins cannot be switched off; `gate`, while
    it is clear, holds a create back *after* its login was made; `skew` is the server's clock
    against ours; `calls` counts whatever reached it.
    """

    logins: dict[RoleName, FakeLogin] = field(default_factory=dict)
    ended: set[RoleName] = field(default_factory=set)
    made: list[RoleName] = field(default_factory=list)
    reachable: bool = True
    stuck: set[RoleName] = field(default_factory=set)
    checks: tuple[Check, ...] = (Check(name="schema", status=CheckStatus.OK, detail="is there"),)
    skew: timedelta = timedelta()
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skew  # noqa: TID251  # the server's own clock

    async def create_ephemeral_user(self, request: CreateUser) -> UserCreated:
        await self.health()
        self._refuse_what_is_no_login_of_ours(request)
        name = request.username
        known = self.logins.get(name)
        if known is None:
            ends = self.now() + request.ttl
            self.logins[name] = FakeLogin(request.verifier, request.role, ends)
            self.made.append(name)
        elif known.verifier != request.verifier or known.role != request.role:
            msg = f"{name} is another login"
            raise TargetRefusedError(msg)
        await self.gate.wait()
        return self._created(name, existed=known is not None)

    async def revoke_users(
        self, usernames: Sequence[RoleName], objects: ObjectPolicy
    ) -> tuple[UserRevoked | Failure, ...]:
        await self.health()
        return tuple(self._revoke(name, objects) for name in usernames)

    async def extend_user(self, username: RoleName, ttl: timedelta) -> UserCreated:
        await self.health()
        alive = username in self.logins and username not in self.ended
        if not alive or not timedelta() < ttl <= MAX_TTL:
            msg = f"{username} cannot be extended by that"
            raise TargetRefusedError(msg)
        self.logins[username].expires_at = self.now() + ttl
        return self._created(username, existed=True)

    async def list_overdue_users(self, grace: timedelta) -> tuple[RoleName, ...]:
        await self.health()
        over = self.now() - grace
        return tuple(name for name, login in self.logins.items() if login.expires_at < over)

    async def forget_ended(self, older: timedelta) -> int:
        await self.health()
        return 0

    async def list_managed_users(self) -> tuple[ManagedUser, ...]:
        await self.health()
        return tuple(
            ManagedUser(
                username=name,
                can_login=login.can_login,
                expires_at=login.expires_at,
                backends=login.connections,
                packs=frozenset({login.role}),
                drift=login.drift,
            )
            for name, login in sorted(self.logins.items())
        )

    async def doctor(self) -> tuple[Check, ...]:
        await self.health()
        return self.checks

    async def health(self) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if not self.reachable:
            msg = "the target does not answer"
            raise TargetUnreachableError(msg)

    async def close(self) -> None:
        self.closed = True

    def _refuse_what_is_no_login_of_ours(self, request: CreateUser) -> None:
        if request.username in self.ended:
            msg = f"{request.username} was ended before"
            raise TargetRefusedError(msg)
        fits = (
            re.fullmatch(r"gk_[a-z2-7]{20}", request.username)
            and request.role in PACKS
            and timedelta() < request.ttl <= MAX_TTL
            and scram.is_verifier(request.verifier)
        )
        if not fits:
            msg = "this is no login of ours"
            raise TargetRefusedError(msg)

    def _revoke(self, name: RoleName, objects: ObjectPolicy) -> UserRevoked | Failure:
        if name in self.stuck:
            return Failure(code="TARGET_BUSY", message="in the way", retryable=True)
        self.ended.add(name)
        login = self.logins.get(name)
        owned = (OwnedObjects(database="shop", objects=login.objects),) if login else ()
        kept = bool(login and login.objects) and objects is ObjectPolicy.QUARANTINE
        ended = login.connections if login else 0
        if login is not None and kept:
            login.can_login, login.connections = False, 0
            login.expires_at = min(login.expires_at, self.now())
        else:
            self.logins.pop(name, None)
        return UserRevoked(
            username=name,
            existed=name in self.made,
            gone=not kept,
            backends_ended=ended,
            access_cut_at=self.now(),
            verified_at=self.now(),
            owned=tuple(found for found in owned if found.objects),
            left=("role", "objects in shop") if kept else (),
        )

    def _created(self, name: RoleName, *, existed: bool) -> UserCreated:
        return UserCreated(
            username=name,
            expires_at=self.logins[name].expires_at,
            target_now=self.now(),
            already_existed=existed,
        )
