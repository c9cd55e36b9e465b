"""The `Agents` port: every call is a signed job, every answer a signed result."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

from pydantic import ValidationError

from gatekeeper.databases.model import (
    Check,
    CheckStatus,
    ManagedUser,
    OwnedObjects,
    UserCreated,
    UserRevoked,
)
from gatekeeper.databases.ports import Receipt
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.kernel.ids import RoleName, role_name
from gatekeeper.platform.crypto.envelope import open_envelope, seal
from gatekeeper.wire import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.databases.model import CreateUser, Target
    from gatekeeper.databases.ports import Sealer
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.envelope import ReplayGuard

R = TypeVar("R", bound=jobs.Result)


class Transport(Protocol):
    """How an envelope travels to one agent and its answer back."""

    async def exchange(self, envelope: str) -> str:
        """Return the agent's answer.

        Raises `UnavailableError` (AGENT_UNREACHABLE) when none came in time.
        """
        ...

    async def close(self) -> None: ...


class AgentGateway:
    """Speaks to the agents in this plane's words."""

    def __init__(
        self,
        *,
        name: str,
        key: Ed25519PrivateKey,
        agent_keys: Mapping[str, Ed25519PublicKey],
        transports: Mapping[str, Transport],
        seen: ReplayGuard,
        sealer: Sealer,
        clock: Clock,
        random: Random,
    ) -> None:
        self._name = name
        self._key = key
        self._agent_keys = agent_keys
        self._transports = transports
        self._seen = seen
        self._sealer = sealer
        self._clock = clock
        self._random = random

    async def create(self, target: Target, request: CreateUser) -> Receipt[UserCreated]:
        result, signed = await self._call(
            target, self._create_job(target, request, seal_to=None), jobs.CreateSessionResult
        )
        return Receipt(value=_created(result, request.username), agent=target.agent, signed=signed)

    async def create_generated(
        self, target: Target, request: CreateUser
    ) -> tuple[Receipt[UserCreated], str]:
        job = self._create_job(target, request, seal_to=self._sealer.public_key)
        result, signed = await self._call(target, job, jobs.CreateSessionResult)
        if result.sealed_password is None:
            _reject("the agent made no password")
        receipt = Receipt(
            value=_created(result, request.username), agent=target.agent, signed=signed
        )
        return receipt, result.sealed_password

    async def revoke(
        self, target: Target, session: SessionId, correlation_id: str
    ) -> Receipt[UserRevoked]:
        job = jobs.RevokeSessionJob(
            id=f"revoke:{session}",
            correlation_id=correlation_id,
            target=target.name,
            session_id=session,
            username=role_name(session),
        )
        result, signed = await self._call(target, job, jobs.RevokeSessionResult)
        return Receipt(value=_revoked(result, job.username), agent=target.agent, signed=signed)

    async def extend(
        self, target: Target, session: SessionId, ttl: timedelta, correlation_id: str
    ) -> Receipt[UserCreated]:
        job = jobs.ExtendSessionJob(
            id=f"extend:{session}:{self._nonce()}",
            correlation_id=correlation_id,
            target=target.name,
            session_id=session,
            username=role_name(session),
            ttl_seconds=int(ttl.total_seconds()),
        )
        result, signed = await self._call(target, job, jobs.ExtendSessionResult)
        return Receipt(
            value=_created(result, role_name(session)), agent=target.agent, signed=signed
        )

    async def list_users(
        self, target: Target, correlation_id: str
    ) -> Receipt[tuple[ManagedUser, ...]]:
        job = jobs.ReconcileJob(
            id=f"reconcile:{self._nonce()}", correlation_id=correlation_id, target=target.name
        )
        result, signed = await self._call(target, job, jobs.ReconcileResult)
        users = tuple(_managed(user) for user in result.users)
        return Receipt(value=users, agent=target.agent, signed=signed)

    async def doctor(self, target: Target, correlation_id: str) -> tuple[Check, ...]:
        job = jobs.DoctorJob(
            id=f"doctor:{self._nonce()}", correlation_id=correlation_id, target=target.name
        )
        result, _signed = await self._call(target, job, jobs.DoctorResult)
        return tuple(
            Check(name=c.name, status=CheckStatus(c.status), detail=c.detail, fix=c.fix)
            for c in result.checks
        )

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()

    async def _call(self, target: Target, job: jobs.Job, expected: type[R]) -> tuple[R, str]:
        """Send one job; return its result and the envelope that proves who said so."""
        transport, key = self._transports.get(target.agent), self._agent_keys.get(target.agent)
        if transport is None or key is None:
            msg = f"target {target.name!r} names agent {target.agent!r}, which is not configured"
            raise GatekeeperError(ErrorCode.AGENT_REJECTED, msg)
        message_id = self._nonce()
        answer = await transport.exchange(self._sealed(job, target.agent, message_id))
        opened = open_envelope(
            answer,
            trusted={target.agent: (key,)},
            audience=self._name,
            purpose="result",
            now=self._clock.now(),
            seen=self._seen,
            in_reply_to=message_id,
        )
        if isinstance(opened, Refusal):
            _reject(f"its answer was refused: {opened.detail}")
        return _result(opened.payload, job, expected), answer

    def _sealed(self, job: jobs.Job, agent: str, message_id: str) -> str:
        return seal(
            job.model_dump_json(by_alias=True).encode(),
            key=self._key,
            sender=self._name,
            audience=agent,
            purpose="job",
            message_id=message_id,
            now=self._clock.now(),
        )

    def _create_job(
        self, target: Target, request: CreateUser, *, seal_to: str | None
    ) -> jobs.CreateSessionJob:
        return jobs.CreateSessionJob(
            id=f"create:{request.session}",
            correlation_id=request.correlation_id,
            target=target.name,
            session_id=request.session,
            username=request.username,
            role=request.role,
            ttl_seconds=int(request.ttl.total_seconds()),
            verifier=request.verifier or None,
            seal_to=seal_to,
        )

    def _nonce(self) -> str:
        return self._random.bytes(16).hex()


def _result(payload: bytes, job: jobs.Job, expected: type[R]) -> R:
    try:
        result = jobs.RESULT.validate_json(payload)
    except ValidationError as error:
        _reject("its answer has the wrong shape", error)
    if result.job_id != job.id or not isinstance(result, expected):
        _reject("its answer belongs to another job")
    if result.error is not None:
        raise _foreign(result.error)
    return result


def _foreign(error: jobs.JobError) -> GatekeeperError:
    code = ErrorCode(error.code) if error.code in set(ErrorCode) else ErrorCode.AGENT_REJECTED
    return GatekeeperError(code, error.message, retryable=error.retryable)


def _reject(why: str, cause: Exception | None = None) -> NoReturn:
    msg = f"the agent cannot be believed: {why}"
    raise GatekeeperError(ErrorCode.AGENT_REJECTED, msg) from cause


def _created(
    result: jobs.CreateSessionResult | jobs.ExtendSessionResult, username: RoleName
) -> UserCreated:
    if result.expires_at is None or result.target_now is None:
        _reject("it names no times")
    return UserCreated(
        username=username,
        expires_at=result.expires_at,
        target_now=result.target_now,
        already_existed=False,
    )


def _revoked(result: jobs.RevokeSessionResult, username: str) -> UserRevoked:
    if result.access_cut_at is None or result.verified_at is None:
        _reject("it names no times")
    return UserRevoked(
        username=RoleName(username),
        existed=result.existed,
        gone=result.status == "gone",
        backends_ended=result.backends_ended,
        access_cut_at=result.access_cut_at,
        verified_at=result.verified_at,
        owned=tuple(OwnedObjects(database=o.database, objects=o.objects) for o in result.owned),
        left=result.left,
    )


def _managed(user: jobs.ManagedUserReport) -> ManagedUser:
    return ManagedUser(
        username=RoleName(user.username),
        can_login=user.can_login,
        expires_at=user.expires_at,
        backends=user.backends,
        packs=frozenset(user.packs),
        drift=user.drift,
    )
