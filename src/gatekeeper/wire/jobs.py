"""Jobs to an agent and results from it. Their JSON Schemas are published from here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from gatekeeper.kernel.ids import ROLE_NAME, SESSION_ID
from gatekeeper.wire.base import Request

MAX_JOB_BYTES: Final = 65_536
"""A job or result larger than this is refused unread."""

JobIdText = Annotated[str, Field(min_length=1, max_length=128)]
SessionIdText = Annotated[str, Field(pattern=f"^{SESSION_ID.pattern}$")]
Username = Annotated[str, Field(pattern=f"^{ROLE_NAME.pattern}$")]
TargetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
RoleText = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class _Job(Request):
    id: JobIdText
    """The idempotency key: the same id is the same work."""
    correlation_id: Annotated[str, Field(min_length=1, max_length=64)]
    target: TargetName
    traceparent: Annotated[str, Field(pattern=r"^[0-9a-f-]{55,128}$")] | None = None
    """The trace this work belongs to (W3C Trace Context), where there is one."""


class CreateSessionJob(_Job):
    type: Literal["create_session"] = "create_session"
    session_id: SessionIdText
    username: Username
    role: RoleText
    ttl_seconds: Annotated[int, Field(ge=1, le=31_536_000)]
    verifier: Annotated[str, Field(max_length=256)] | None
    """A SCRAM verifier; absent when the agent is to generate the password."""
    seal_to: Annotated[str, Field(max_length=1024)] | None = None
    """The public key (JWK, JSON) that a generated password is sealed to."""


class RevokeSessionJob(_Job):
    type: Literal["revoke_session"] = "revoke_session"
    session_id: SessionIdText
    username: Username


class ExtendSessionJob(_Job):
    type: Literal["extend_session"] = "extend_session"
    session_id: SessionIdText
    username: Username
    ttl_seconds: Annotated[int, Field(ge=1, le=31_536_000)]


class CleanupJob(_Job):
    """End every login of ours whose time is over by the target's own clock."""

    type: Literal["cleanup"] = "cleanup"


class ReconcileJob(_Job):
    """Report every login of ours at the target; the control plane compares and decides."""

    type: Literal["reconcile"] = "reconcile"


class DoctorJob(_Job):
    type: Literal["doctor"] = "doctor"


Job = Annotated[
    CreateSessionJob | RevokeSessionJob | ExtendSessionJob | CleanupJob | ReconcileJob | DoctorJob,
    Field(discriminator="type"),
]
JOB: Final[TypeAdapter[Job]] = TypeAdapter(Job)

MAX_BATCH_JOBS: Final = 64
Batch = Annotated[tuple[Job, ...], Field(min_length=1, max_length=MAX_BATCH_JOBS)]
"""What one signed message carries: jobs that are done side by side, each with its own signed
result. The answer is those results, a line each, in the order of the jobs.
"""
BATCH: Final[TypeAdapter[tuple[Job, ...]]] = TypeAdapter(Batch)


class JobError(Request):
    code: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=2000)]
    retryable: bool


class _Result(Request):
    job_id: JobIdText
    correlation_id: Annotated[str, Field(min_length=1, max_length=64)]
    error: JobError | None = None


class CreateSessionResult(_Result):
    type: Literal["create_session"] = "create_session"
    status: Literal["ready", "failed"]
    expires_at: datetime | None = None
    target_now: datetime | None = None
    sealed_password: Annotated[str, Field(max_length=4096)] | None = None


class OwnedObjectsReport(Request):
    database: str
    objects: tuple[str, ...]


class RevokeSessionResult(_Result):
    type: Literal["revoke_session"] = "revoke_session"
    status: Literal["gone", "incomplete", "failed"]
    existed: bool = False
    backends_ended: int = 0
    access_cut_at: datetime | None = None
    verified_at: datetime | None = None
    owned: tuple[OwnedObjectsReport, ...] = ()
    left: tuple[str, ...] = ()


class ExtendSessionResult(_Result):
    type: Literal["extend_session"] = "extend_session"
    status: Literal["extended", "failed"]
    expires_at: datetime | None = None
    target_now: datetime | None = None


class CleanupResult(_Result):
    type: Literal["cleanup"] = "cleanup"
    status: Literal["completed", "failed"]
    cleaned: tuple[str, ...] = ()


class ManagedUserReport(Request):
    username: str
    can_login: bool
    expires_at: datetime | None
    backends: int
    packs: tuple[str, ...]
    drift: tuple[str, ...]


class ReconcileResult(_Result):
    type: Literal["reconcile"] = "reconcile"
    status: Literal["completed", "failed"]
    users: tuple[ManagedUserReport, ...] = ()


class CheckReport(Request):
    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    fix: str | None = None


class DoctorResult(_Result):
    type: Literal["doctor"] = "doctor"
    status: Literal["completed", "failed"]
    checks: tuple[CheckReport, ...] = ()


Result = Annotated[
    CreateSessionResult
    | RevokeSessionResult
    | ExtendSessionResult
    | CleanupResult
    | ReconcileResult
    | DoctorResult,
    Field(discriminator="type"),
]
RESULT: Final[TypeAdapter[Result]] = TypeAdapter(Result)
