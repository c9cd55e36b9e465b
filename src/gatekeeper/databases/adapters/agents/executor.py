"""The agent: a signed job in, a signed result out. It keeps nothing between jobs."""

from __future__ import annotations

import asyncio
import hmac
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import ValidationError

from gatekeeper.databases.adapters.agents import results
from gatekeeper.databases.model import CreateUser, UserRevoked
from gatekeeper.kernel import scram
from gatekeeper.kernel.errors import ErrorCode, Failure, GatekeeperError, Refusal
from gatekeeper.kernel.ids import RoleName, SessionId, role_name
from gatekeeper.platform.crypto.party import Party
from gatekeeper.platform.crypto.sealing import seal_secret
from gatekeeper.platform.telemetry import traces
from gatekeeper.wire import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.databases.model import ObjectPolicy
    from gatekeeper.databases.ports import DatabaseProvider
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.envelope import Opened, ReplayGuard

    _Alone = (
        jobs.CreateSessionJob
        | jobs.ExtendSessionJob
        | jobs.CleanupJob
        | jobs.ReconcileJob
        | jobs.DoctorJob
    )

log = structlog.get_logger("gatekeeper.agent")

OVERDUE: Final = timedelta(seconds=30)
"""How long after its end a login is the control plane's to end, before the agent does it."""
REMEMBERED: Final = timedelta(days=30)
"""How long an ended login is remembered at the target, so that it is never made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTarget:
    """A target this agent serves."""

    provider: DatabaseProvider
    owned_objects: ObjectPolicy


class AgentExecutor:
    """Carries out the jobs of its control plane, and of nobody else."""

    def __init__(
        self,
        *,
        name: str,
        key: Ed25519PrivateKey,
        control_planes: Mapping[str, tuple[Ed25519PublicKey, ...]],
        targets: Mapping[str, ServedTarget],
        seen: ReplayGuard,
        clock: Clock,
        random: Random,
    ) -> None:
        self._key = key
        self._targets = targets
        self._party = Party(
            name=name, key=key, trusted=control_planes, clock=clock, random=random, seen=seen
        )

    async def handle(self, envelope: str) -> str | Refusal:
        """Open a job, run it, and seal its result; refuse what is not a fresh job for us."""
        opened = self._party.open(envelope, "job")
        if isinstance(opened, Refusal):
            log.warning("job refused", detail=opened.detail)
            return opened
        try:
            work = jobs.BATCH.validate_json(opened.payload)
        except ValidationError:
            return Refusal(code=ErrorCode.AGENT_REJECTED, detail="the job has the wrong shape")
        return "\n".join(self._sealed(result, opened) for result in await self._run(work))

    async def sweep(self) -> None:
        """End what is overdue at every target, asked by nobody: the control plane may be dead."""
        for name, served in self._targets.items():
            try:
                gone = await _end_overdue(served)
            except GatekeeperError as error:
                log.warning("a target could not be swept", target=name, code=error.code)
                continue
            if gone:
                log.warning("overdue logins ended", target=name, logins=len(gone))

    async def close(self) -> None:
        for target in self._targets.values():
            await target.provider.close()

    def _sealed(self, result: jobs.Result, opened: Opened) -> str:
        """Sign one result on its own: it is the receipt that stands in the evidence."""
        return self._party.answer(result.model_dump_json(by_alias=True).encode(), opened)

    async def _run(self, work: Sequence[jobs.Job]) -> list[jobs.Result]:
        """Run jobs side by side: those that end logins of one target in one go."""
        ending = defaultdict[str, list[jobs.RevokeSessionJob]](list)
        for job in work:
            if isinstance(job, jobs.RevokeSessionJob):
                ending[job.target].append(job)
        others = [job for job in work if not isinstance(job, jobs.RevokeSessionJob)]
        done = await asyncio.gather(
            *(self._revoke(target, batch) for target, batch in ending.items()),
            *(self._one(job) for job in others),
        )
        by_job = {result.job_id: result for some in done for result in some}
        return [by_job[job.id] for job in work]

    async def _one(self, job: _Alone) -> list[jobs.Result]:
        with (
            structlog.contextvars.bound_contextvars(correlationId=job.correlation_id),
            traces.span(
                f"agent {job.type}",
                kind="server",
                parents=(job.traceparent,),
                target=job.target,
                correlation_id=job.correlation_id,
            ),
        ):
            try:
                result = await self._dispatch(job, self._served(job.target))
            except GatekeeperError as error:
                return [_failed(job, Failure.of(error))]
            log.info("job done", type=job.type, target=job.target, status=result.status)
            return [result]

    async def _revoke(
        self, target: str, work: Sequence[jobs.RevokeSessionJob]
    ) -> list[jobs.Result]:
        parents = [job.traceparent for job in work]
        with traces.span("agent revoke_session", kind="server", parents=parents, target=target):
            try:
                served = self._served(target)
                for job in work:
                    _check_name(job.session_id, job.username)
                answers = await served.provider.revoke_users(
                    [RoleName(job.username) for job in work], served.owned_objects
                )
            except GatekeeperError as error:
                return [_failed(job, Failure.of(error)) for job in work]
            return [_revoked(job, answer) for job, answer in zip(work, answers, strict=True)]

    def _served(self, target: str) -> ServedTarget:
        served = self._targets.get(target)
        if served is None:
            msg = f"this agent does not serve target {target!r}"
            raise GatekeeperError(ErrorCode.AGENT_REJECTED, msg)
        return served

    async def _dispatch(self, job: _Alone, served: ServedTarget) -> jobs.Result:
        match job:
            case jobs.CreateSessionJob():
                return await self._create(job, served.provider)
            case jobs.ExtendSessionJob():
                _check_name(job.session_id, job.username)
                ttl = timedelta(seconds=job.ttl_seconds)
                login = await served.provider.extend_user(RoleName(job.username), ttl)
                return results.extended(job, login)
            case jobs.CleanupJob():
                return results.cleaned(job, await _end_overdue(served))
            case jobs.ReconcileJob():
                return results.listed(job, await served.provider.list_managed_users())
            case jobs.DoctorJob():
                return results.examined(job, await served.provider.doctor())

    async def _create(
        self, job: jobs.CreateSessionJob, provider: DatabaseProvider
    ) -> jobs.CreateSessionResult:
        _check_name(job.session_id, job.username)
        verifier, sealed = job.verifier, None
        if verifier is None:
            verifier, sealed = self._generate(job)
        created = await provider.create_ephemeral_user(
            CreateUser(
                session=SessionId(job.session_id),
                username=RoleName(job.username),
                role=job.role,
                ttl=timedelta(seconds=job.ttl_seconds),
                verifier=verifier,
                correlation_id=job.correlation_id,
            )
        )
        return results.created(job, created, sealed)

    def _generate(self, job: jobs.CreateSessionJob) -> tuple[str, str]:
        """Make a password; return its verifier, and itself sealed to the control plane."""
        if job.seal_to is None:
            msg = "a generated password needs a key to be sealed to"
            raise GatekeeperError(ErrorCode.AGENT_REJECTED, msg)
        password = scram.make_password(self._derived(b"password", job))
        verifier = scram.make_verifier(password, self._derived(b"salt", job)[: scram.SALT_BYTES])
        return verifier, seal_secret(password, to=job.seal_to)

    def _derived(self, purpose: bytes, job: jobs.CreateSessionJob) -> bytes:
        """Return 32 bytes that only this agent can make, and makes again for a repeated job.

        A second try must bring the same verifier, or the target takes it for another login.
        """
        secret = self._key.private_bytes_raw()
        return hmac.digest(secret, b"generated " + purpose + job.session_id.encode(), "sha256")


async def _end_overdue(served: ServedTarget) -> tuple[RoleName, ...]:
    """End what is overdue by the target's own clock; return the logins proven gone."""
    overdue = await served.provider.list_overdue_users(OVERDUE)
    gone: list[RoleName] = []
    for start in range(0, len(overdue), jobs.MAX_BATCH_JOBS):
        batch = overdue[start : start + jobs.MAX_BATCH_JOBS]
        answers = await served.provider.revoke_users(batch, served.owned_objects)
        gone += [a.username for a in answers if isinstance(a, UserRevoked) and a.gone]
    await served.provider.forget_ended(REMEMBERED)
    return tuple(gone)


def _check_name(session: str, username: str) -> None:
    """A login belongs to one session, by its name: a job cannot aim at another's."""
    if role_name(SessionId(session)) != username:
        raise GatekeeperError(ErrorCode.AGENT_REJECTED, "the login does not belong to the session")


def _revoked(job: jobs.RevokeSessionJob, proof: UserRevoked | Failure) -> jobs.Result:
    if isinstance(proof, Failure):
        return _failed(job, proof)
    log.info("job done", type=job.type, target=job.target, correlationId=job.correlation_id)
    return results.revoked(job, proof)


def _failed(job: jobs.Job, why: Failure) -> jobs.Result:
    log.warning(
        "job failed",
        type=job.type,
        target=job.target,
        code=why.code,
        correlationId=job.correlation_id,
    )
    return results.failed(job, why)
