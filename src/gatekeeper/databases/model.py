"""The frozen values of the database plane."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import ErrorCode, Failure

if TYPE_CHECKING:
    from datetime import datetime

    from gatekeeper.kernel.ids import RoleName, SessionId
    from gatekeeper.kernel.session import SessionStatus

ROLE_PACK_VERSION: Final = "pg-1.0.0"


class ObjectPolicy(StrEnum):
    """What becomes of objects that an ephemeral login owns when it ends."""

    QUARANTINE = "quarantine"
    """The login stays disabled and powerless, its objects are listed, a human decides."""
    REASSIGN = "reassign"
    """The objects go to a graveyard role that cannot log in and holds nothing."""
    DROP = "drop"
    """The objects are dropped with the login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUser:
    """Ask a target for one login. `verifier` is a SCRAM verifier, never a password."""

    session: SessionId
    username: RoleName
    role: str
    ttl: timedelta
    verifier: str
    correlation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndUser:
    """Ask a target to end the login of a session, whether or not the store knows it."""

    session: SessionId
    correlation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCreated:
    """The login exists. Both times are the *target's* clock."""

    username: RoleName
    expires_at: datetime
    target_now: datetime
    already_existed: bool
    sealed_password: str | None = None
    """A password the agent made, sealed to the control plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedObjects:
    """Objects of one database that belonged to a login, as readable descriptions."""

    database: str
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRevoked:
    """The proof that a login is gone; times are the target's clock.

    `existed` is false when there was nothing to end (that is success too).
    `gone` is true only after the catalogue was read again: no role, no backend,
    no dependency. When it is false `left` says what still stands.
    """

    username: RoleName
    existed: bool
    gone: bool
    backends_ended: int
    access_cut_at: datetime
    verified_at: datetime
    owned: tuple[OwnedObjects, ...] = ()
    left: tuple[str, ...] = ()

    def shortfall(self) -> Failure | None:
        """Say what keeps the login from being gone; None when it was read back as gone."""
        if self.gone:
            return None
        return Failure(
            code=ErrorCode.REVOCATION_INCOMPLETE,
            message="still there: " + ("; ".join(self.left) or "unknown"),
            retryable=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedUser:
    """A login at a target whose name says that it is ours."""

    username: RoleName
    can_login: bool
    expires_at: datetime | None
    backends: int
    packs: frozenset[str]
    drift: tuple[str, ...] = ()
    """What about it is not as it was made: attributes, password, memberships, marker."""


class CheckStatus(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding of `gk doctor`, with the exact statement that mends it."""

    name: str
    status: CheckStatus
    detail: str
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A database that sessions can be asked for, as the control plane knows it."""

    name: str
    agent: str
    host: str
    port: int
    database: str
    sslmode: str
    min_ttl: timedelta
    max_ttl: timedelta
    roles: tuple[str, ...]
    engine: str = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A request as the control plane understood it, before any decision."""

    target: str
    role: str
    ttl: timedelta | None
    reason: str
    verifier: str | None
    """None: the agent is to generate the password."""
    idempotency_key: str | None = None
    body_sha256: str = ""
    correlation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One database session. All times are the store's clock."""

    id: SessionId
    status: SessionStatus
    requester: str
    requester_email: str | None
    target: str
    role: str
    reason: str
    grant: str
    username: RoleName
    ttl: timedelta
    max_ttl: timedelta
    verifier: str | None
    sealed_password: str | None
    correlation_id: str
    created_at: datetime
    ready_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    cleaned_at: datetime | None
    error: Failure | None

    def issue_latency(self) -> timedelta:
        """Return how long it took from the request until the login could be used."""
        return (self.ready_at or self.created_at) - self.created_at

    def cleanup_lag(self) -> timedelta:
        """Return how long after its end the login was proven gone."""
        if self.cleaned_at is None or self.ended_at is None:
            return timedelta()
        return self.cleaned_at - self.ended_at


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions to list, and where the page starts; no `statuses`: of all."""

    requester: str | None = None
    statuses: frozenset[SessionStatus] = frozenset()
    target: str | None = None
    role: str | None = None
    limit: int = 50
    before: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChange:
    """One change of a session's status; `cursor` orders all changes of the store."""

    cursor: tuple[int, int]
    session_id: SessionId
    requester: str
    target: str
    role: str
    status: SessionStatus
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of a session to another status, and what becomes known with it."""

    session: Session
    to: SessionStatus
    expires_at: datetime | None = None
    sealed_password: str | None = None
    error: Failure | None = None
