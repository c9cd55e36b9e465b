"""What the database plane needs from the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta

    from gatekeeper.databases.model import (
        Check,
        CreateUser,
        EndUser,
        ManagedUser,
        Move,
        ObjectPolicy,
        Session,
        SessionChange,
        SessionFilter,
        Target,
        UserCreated,
        UserRevoked,
    )
    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.kernel.errors import Failure
    from gatekeeper.kernel.ids import RoleName, SessionId
    from gatekeeper.kernel.policy import Policy


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

    async def revoke_users(
        self, usernames: Sequence[RoleName], objects: ObjectPolicy
    ) -> tuple[UserRevoked | Failure, ...]:
        """End logins and prove it: off, backends gone, objects handled, dropped, re-read.

        The answers are in the order asked; one that could not be ended holds up no other.
        A missing login is success. Safe to call again at any time, also while another
        call for the same logins is under way.
        """
        ...

    async def extend_user(self, username: RoleName, ttl: timedelta) -> UserCreated:
        """Move the login's end to `ttl` from now on the target's clock."""
        ...

    async def list_overdue_users(self, grace: timedelta) -> tuple[RoleName, ...]:
        """Return logins of ours that still stand this long after their end, by the target's clock.

        A login that was ended and not proven gone is among them.
        """
        ...

    async def forget_ended(self, older: timedelta) -> int:
        """Forget logins that ended this long ago and are gone; return how many.

        Until then a create that arrives late is refused.
        """
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


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Generic[T]):
    """What an agent answered, and its signature over the answer, for the evidence."""

    value: T
    agent: str
    signed: str


class Agents(Protocol):
    """The agents, seen by the control plane: each call reaches the one that serves the target.

    Every method may raise `GatekeeperError`; `retryable` says whether to try again.
    A call that failed may still have been carried out: all are safe to repeat.
    """

    async def create(
        self, target: Target, sessions: Sequence[Session]
    ) -> tuple[Receipt[UserCreated] | Failure, ...]:
        """Make the logins of sessions; one answer for each, in the order asked.

        For a session without verifier the agent makes the password, and seals it to us.
        """
        ...

    async def revoke(
        self, target: Target, ended: Sequence[EndUser]
    ) -> tuple[Receipt[UserRevoked] | Failure, ...]:
        """End the logins of sessions; one answer for each, in the order asked."""
        ...

    async def extend(
        self, target: Target, session: SessionId, ttl: timedelta, correlation_id: str
    ) -> Receipt[UserCreated]: ...

    async def list_users(
        self, target: Target, correlation_id: str
    ) -> Receipt[tuple[ManagedUser, ...]]: ...

    async def clean_up(self, target: Target, correlation_id: str) -> Receipt[tuple[RoleName, ...]]:
        """Have every overdue login ended; return those that were, and are proven gone."""
        ...

    async def doctor(self, target: Target, correlation_id: str) -> tuple[Check, ...]: ...


class JobClaim(Protocol):
    """A job that this process holds; a transaction can end it together with its effect."""

    @property
    def session(self) -> SessionId: ...

    @property
    def target(self) -> str: ...


class SessionUnit(Protocol):
    """One transaction over the session store, its jobs and its evidence.

    All of it is committed together, or none of it.
    """

    async def now(self) -> datetime:
        """Return the store's clock: the one clock that decides when a session ends."""
        ...

    async def claim_key(
        self, requester: str, key: str, body_sha256: str, session: SessionId
    ) -> tuple[str, SessionId] | None:
        """Bind an idempotency key to a session, or return what it is already bound to.

        Waits for a transaction that is just claiming the same key.
        """
        ...

    async def count_open(self, requester: str) -> int:
        """Count open sessions, holding off other requests of this requester until the end."""
        ...

    async def add(self, session: Session) -> Session: ...

    async def lock(self, session: SessionId) -> Session | None:
        """Read a session and keep it from changing until the end of the transaction."""
        ...

    async def lock_all(self, sessions: Sequence[SessionId]) -> Mapping[SessionId, Session]:
        """Read sessions, those that there are, and keep them from changing."""
        ...

    async def move_all(self, moves: Sequence[Move]) -> Sequence[Session]:
        """Change statuses, stamp the time of it, and tell the watchers.

        Raises `IntegrityError` for a move that is not in the kernel's table.
        """
        ...

    async def set_expiry(self, session: Session, expires_at: datetime) -> Session: ...

    async def note_error(self, session: Session, error: Failure) -> Session: ...

    async def record(self, *events: AuditEvent) -> None: ...

    async def schedule_issue(self, session: Session) -> None: ...

    async def schedule_ends(self, ends: Sequence[tuple[Session, datetime]]) -> None:
        """Make, or move, the one job that ends each session."""
        ...

    async def schedule_clean_up(self, target: str) -> None:
        """Make the one job that comes back to a target, due now."""
        ...

    async def settle(self, claims: Sequence[JobClaim]) -> Sequence[JobClaim]:
        """End these jobs if, and only if, this transaction commits.

        Returns those that are still ours: nothing may be done for others.
        """
        ...

    async def postpone(self, claim: JobClaim, at: datetime) -> None:
        """Give a job back, to be run at a later time, which is no failure."""
        ...

    async def abandon(self) -> None:
        """Undo everything when the transaction ends."""
        ...


class SessionStore(Protocol):
    """Where sessions live: PostgreSQL, never memory."""

    def transaction(self) -> AbstractAsyncContextManager[SessionUnit]: ...

    async def take_token(self, requester: str, per_minute: int) -> float:
        """Take one token of the requester's bucket; return 0, or how many seconds to wait."""
        ...

    async def find_key(self, requester: str, key: str) -> tuple[str, SessionId] | None: ...

    async def get(self, session: SessionId) -> Session | None: ...

    async def pending(
        self, sessions: Sequence[SessionId], within: timedelta
    ) -> tuple[Sequence[Session], datetime]:
        """Return those that are pending, and not for longer than this; and the store's clock."""
        ...

    async def find(self, wanted: SessionFilter) -> Sequence[Session]:
        """Return at most `wanted.limit` sessions, newest first."""
        ...

    async def not_cleaned(self, target: str) -> Sequence[Session]:
        """Return every session that may still have a login at the target."""
        ...

    async def changes(
        self, after: tuple[int, int] | None, limit: int
    ) -> tuple[Sequence[SessionChange], tuple[int, int]]:
        """Return changes after a cursor and the next cursor; None starts at the present."""
        ...


class PolicySource(Protocol):
    """The policy in force. A broken file never takes the last good one away."""

    def current(self) -> Policy: ...


class Sealer(Protocol):
    """Opens what an agent sealed to this control plane."""

    @property
    def public_key(self) -> str: ...

    def open(self, sealed: str) -> str:
        """Return the secret. Raises `IntegrityError` when it was not sealed to us."""
        ...
