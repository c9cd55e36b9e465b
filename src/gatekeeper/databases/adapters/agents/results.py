"""What an agent answers: this plane's values as the result of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gatekeeper.wire import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gatekeeper.databases.model import (
        Check,
        ManagedUser,
        UserCreated,
        UserRevoked,
    )
    from gatekeeper.kernel.errors import Failure
    from gatekeeper.kernel.ids import RoleName


def created(
    job: jobs.CreateSessionJob, login: UserCreated, sealed: str | None
) -> jobs.CreateSessionResult:
    return jobs.CreateSessionResult(
        job_id=job.id,
        correlation_id=job.correlation_id,
        status="ready",
        expires_at=login.expires_at,
        target_now=login.target_now,
        sealed_password=sealed,
    )


def extended(job: jobs.ExtendSessionJob, login: UserCreated) -> jobs.ExtendSessionResult:
    return jobs.ExtendSessionResult(
        job_id=job.id,
        correlation_id=job.correlation_id,
        status="extended",
        expires_at=login.expires_at,
        target_now=login.target_now,
    )


def revoked(job: jobs.RevokeSessionJob, proof: UserRevoked) -> jobs.RevokeSessionResult:
    return jobs.RevokeSessionResult(
        job_id=job.id,
        correlation_id=job.correlation_id,
        status="gone" if proof.gone else "incomplete",
        existed=proof.existed,
        backends_ended=proof.backends_ended,
        access_cut_at=proof.access_cut_at,
        verified_at=proof.verified_at,
        owned=tuple(
            jobs.OwnedObjectsReport(database=o.database, objects=o.objects) for o in proof.owned
        ),
        left=proof.left,
    )


def cleaned(job: jobs.CleanupJob, gone: tuple[RoleName, ...]) -> jobs.CleanupResult:
    return jobs.CleanupResult(
        job_id=job.id, correlation_id=job.correlation_id, status="completed", cleaned=gone
    )


def listed(job: jobs.ReconcileJob, users: Iterable[ManagedUser]) -> jobs.ReconcileResult:
    return jobs.ReconcileResult(
        job_id=job.id,
        correlation_id=job.correlation_id,
        status="completed",
        users=tuple(
            jobs.ManagedUserReport(
                username=user.username,
                can_login=user.can_login,
                expires_at=user.expires_at,
                backends=user.backends,
                packs=tuple(sorted(user.packs)),
                drift=user.drift,
            )
            for user in users
        ),
    )


def examined(job: jobs.DoctorJob, checks: Iterable[Check]) -> jobs.DoctorResult:
    return jobs.DoctorResult(
        job_id=job.id,
        correlation_id=job.correlation_id,
        status="completed",
        checks=tuple(
            jobs.CheckReport(name=c.name, status=c.status.value, detail=c.detail, fix=c.fix)
            for c in checks
        ),
    )


_OF_TYPE: Final[Mapping[str, Callable[..., jobs.Result]]] = {
    "create_session": jobs.CreateSessionResult,
    "revoke_session": jobs.RevokeSessionResult,
    "extend_session": jobs.ExtendSessionResult,
    "cleanup": jobs.CleanupResult,
    "reconcile": jobs.ReconcileResult,
    "doctor": jobs.DoctorResult,
}


def failed(job: jobs.Job, why: Failure) -> jobs.Result:
    return _OF_TYPE[job.type](
        job_id=job.id,
        correlation_id=job.correlation_id,
        status="failed",
        error=jobs.JobError(code=why.code, message=why.message, retryable=why.retryable),
    )
