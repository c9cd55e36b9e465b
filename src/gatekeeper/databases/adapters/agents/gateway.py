"""The `Agents` port: every call is a signed job, every answer a signed result."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, TypeVar

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
from gatekeeper.kernel.errors import ErrorCode, Failure, GatekeeperError, Refusal
from gatekeeper.kernel.ids import RoleName, role_name
from gatekeeper.kernel.receipts import is_legible
from gatekeeper.platform.crypto.party import Party
from gatekeeper.platform.telemetry import traces
from gatekeeper.wire import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.databases.model import EndUser, Session, Target
    from gatekeeper.databases.ports import Sealer
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.envelope import ReplayGuard
    from gatekeeper.platform.crypto.party import Question

MAX_RECEIPT_CHARS: Final = 65_536
"""Of one login's result: it is kept for ever. Honest ones have some hundred, and a few
thousand where something was owned in many databases."""

J = TypeVar("J", bound=jobs.Job)
R = TypeVar("R", bound=jobs.Result)
T = TypeVar("T")


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
        self._party = Party(
            name=name,
            key=key,
            trusted={agent: (agent_key,) for agent, agent_key in agent_keys.items()},
            clock=clock,
            random=random,
            seen=seen,
        )
        self._transports = transports
        self._sealer = sealer
        self._random = random

    async def create(
        self, target: Target, sessions: Sequence[Session]
    ) -> tuple[Receipt[UserCreated] | Failure, ...]:
        work = [self._create_job(session) for session in sessions]
        return await self._each(target, work, jobs.CreateSessionResult, _created)

    async def revoke(
        self, target: Target, ended: Sequence[EndUser]
    ) -> tuple[Receipt[UserRevoked] | Failure, ...]:
        work = [
            jobs.RevokeSessionJob(
                id=f"revoke:{one.session}",
                correlation_id=one.correlation_id,
                target=target.name,
                session_id=one.session,
                username=role_name(one.session),
            )
            for one in ended
        ]
        return await self._each(target, work, jobs.RevokeSessionResult, _revoked)

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
        receipt = await self._call(target, job, jobs.ExtendSessionResult)
        return Receipt(
            value=_created(receipt.value, job), agent=receipt.agent, signed=receipt.signed
        )

    async def list_users(
        self, target: Target, correlation_id: str
    ) -> Receipt[tuple[ManagedUser, ...]]:
        job = jobs.ReconcileJob(
            id=f"reconcile:{self._nonce()}", correlation_id=correlation_id, target=target.name
        )
        receipt = await self._call(target, job, jobs.ReconcileResult)
        users = tuple(_managed(user) for user in receipt.value.users)
        return Receipt(value=users, agent=receipt.agent, signed=receipt.signed)

    async def clean_up(self, target: Target, correlation_id: str) -> Receipt[tuple[RoleName, ...]]:
        job = jobs.CleanupJob(
            id=f"cleanup:{self._nonce()}", correlation_id=correlation_id, target=target.name
        )
        receipt = await self._call(target, job, jobs.CleanupResult)
        cleaned = tuple(RoleName(name) for name in receipt.value.cleaned)
        return Receipt(value=cleaned, agent=receipt.agent, signed=receipt.signed)

    async def doctor(self, target: Target, correlation_id: str) -> tuple[Check, ...]:
        job = jobs.DoctorJob(
            id=f"doctor:{self._nonce()}", correlation_id=correlation_id, target=target.name
        )
        receipt = await self._call(target, job, jobs.DoctorResult)
        return tuple(
            Check(name=c.name, status=CheckStatus(c.status), detail=c.detail, fix=c.fix)
            for c in receipt.value.checks
        )

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()

    async def _each(
        self,
        target: Target,
        work: Sequence[J],
        expected: type[R],
        read: Callable[[R, J], T],
    ) -> tuple[Receipt[T] | Failure, ...]:
        """Have many jobs done with one message; a job that failed is no error of the others."""
        answers = await self._send(target, work)
        return tuple(
            _answered(answer, job, expected, read)
            for answer, job in zip(answers, work, strict=True)
        )

    async def _call(self, target: Target, job: jobs.Job, expected: type[R]) -> Receipt[R]:
        """Have one job done; return its result and the envelope that proves who said so."""
        (answer,) = await self._send(target, (job,))
        return Receipt(
            value=_result(answer.value, job, expected), agent=answer.agent, signed=answer.signed
        )

    async def _send(self, target: Target, work: Sequence[jobs.Job]) -> Sequence[Receipt[bytes]]:
        """Send jobs in one signed message; return what their signed results hold."""
        transport = self._transports.get(target.agent)
        if transport is None or target.agent not in self._party.trusted:
            msg = f"target {target.name!r} names agent {target.agent!r}, which is not configured"
            raise GatekeeperError(ErrorCode.AGENT_REJECTED, msg)
        traced = tuple(job.model_copy(update={"traceparent": traces.traceparent()}) for job in work)
        batch = jobs.BATCH.dump_json(traced, by_alias=True)
        question = self._party.ask(batch, reader=target.agent, purpose="job")
        answer = await transport.exchange(question.envelope)
        lines = answer.split("\n")
        if len(lines) != len(work):
            _reject("it did not answer each job")
        return [self._opened(line, question) for line in lines]

    def _opened(self, signed: str, question: Question) -> Receipt[bytes]:
        opened = self._party.open_answer(signed, question)
        if isinstance(opened, Refusal):
            _reject(f"its answer was refused: {opened.detail}")
        return Receipt(value=opened.payload, agent=opened.sender, signed=signed)

    def _create_job(self, session: Session) -> jobs.CreateSessionJob:
        return jobs.CreateSessionJob(
            id=f"create:{session.id}",
            correlation_id=session.correlation_id,
            target=session.target,
            session_id=session.id,
            username=session.username,
            role=session.role,
            ttl_seconds=int(session.ttl.total_seconds()),
            verifier=session.verifier,
            seal_to=self._sealer.public_key if session.verifier is None else None,
        )

    def _nonce(self) -> str:
        return self._random.bytes(16).hex()


def _answered(
    answer: Receipt[bytes], job: J, expected: type[R], read: Callable[[R, J], T]
) -> Receipt[T] | Failure:
    try:
        if len(answer.signed) > MAX_RECEIPT_CHARS:
            _reject("its answer is too long to be kept")
        value = read(_result(answer.value, job, expected), job)
    except GatekeeperError as error:
        return Failure.of(error)
    return Receipt(value=value, agent=answer.agent, signed=answer.signed)


def _result(payload: bytes, job: jobs.Job, expected: type[R]) -> R:
    try:
        result = jobs.RESULT.validate_json(payload)
    except ValidationError as error:
        _reject("its answer has the wrong shape", error)
    if ((result.job_id, result.correlation_id) != (job.id, job.correlation_id)) or not isinstance(
        result, expected
    ):
        _reject("its answer belongs to another job")
    if result.error is not None:
        raise _foreign(result.error)
    if not is_legible(payload):
        _reject("its answer would be no receipt")
    return result


def _foreign(error: jobs.JobError) -> GatekeeperError:
    code = ErrorCode(error.code) if error.code in set(ErrorCode) else ErrorCode.AGENT_REJECTED
    return GatekeeperError(code, error.message, retryable=error.retryable)


def _reject(why: str, cause: Exception | None = None) -> NoReturn:
    msg = f"the agent cannot be believed: {why}"
    raise GatekeeperError(ErrorCode.AGENT_REJECTED, msg) from cause


def _created(
    result: jobs.CreateSessionResult | jobs.ExtendSessionResult,
    job: jobs.CreateSessionJob | jobs.ExtendSessionJob,
) -> UserCreated:
    if result.expires_at is None or result.target_now is None:
        _reject("it names no times")
    if result.expires_at - result.target_now > timedelta(seconds=job.ttl_seconds):
        _reject("it names another end than was asked for")
    sealed = result.sealed_password if isinstance(result, jobs.CreateSessionResult) else None
    if isinstance(job, jobs.CreateSessionJob) and (sealed is None) != (job.seal_to is None):
        _reject("the password was to be made by the other side")
    return UserCreated(
        username=RoleName(job.username),
        expires_at=result.expires_at,
        target_now=result.target_now,
        already_existed=False,
        sealed_password=sealed,
    )


def _revoked(result: jobs.RevokeSessionResult, job: jobs.RevokeSessionJob) -> UserRevoked:
    if result.access_cut_at is None or result.verified_at is None:
        _reject("it names no times")
    if result.status == "gone" and result.left:
        _reject("it calls gone what it says still stands")
    return UserRevoked(
        username=RoleName(job.username),
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
