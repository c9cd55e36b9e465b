"""Rows of the store to this plane's values: the one place that knows the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.databases.model import Session, SessionChange
from gatekeeper.kernel.ids import RoleName, SessionId
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.postgres.failures import failure_of

if TYPE_CHECKING:
    from gatekeeper.platform.postgres.rows import Row


def session_of(row: Row) -> Session:
    return Session(
        id=SessionId(row["id"]),
        status=SessionStatus(row["status"]),
        requester=row["requester"],
        requester_email=row["requester_email"],
        target=row["target"],
        role=row["role"],
        reason=row["reason"],
        grant=row["grant_name"],
        username=RoleName(row["username"]),
        ttl=row["ttl"],
        max_ttl=row["max_ttl"],
        verifier=row["verifier"],
        sealed_password=row["sealed_password"],
        correlation_id=row["correlation_id"],
        created_at=row["created_at"],
        ready_at=row["ready_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        cleaned_at=row["cleaned_at"],
        error=failure_of(row),
    )


def change_of(row: Row) -> SessionChange:
    return SessionChange(
        cursor=(int(row["xid"]), row["seq"]),
        session_id=SessionId(row["session_id"]),
        requester=row["requester"],
        target=row["target"],
        role=row["role"],
        status=SessionStatus(row["status"]),
        at=row["at"],
    )
