"""The jobs of the control plane: make a login, and end it. Each is safe to run again.

A handler may be stopped at any point, also by kill -9: what it did is either
committed together with the end of its job, or found and finished by the next run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.databases.errors import TargetMisconfiguredError
from gatekeeper.databases.evidence import SYSTEM, session_event
from gatekeeper.databases.model import CreateUser, Failure
from gatekeeper.databases.settings import PENDING_DEADLINE
from gatekeeper.kernel.audit import AuditKind
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.session import ENDING, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from gatekeeper.databases.model import Session, Target, UserCreated, UserRevoked
    from gatekeeper.databases.ports import Agents, JobClaim, Receipt, SessionStore, SessionUnit


@dataclass(frozen=True, slots=True)
class Finished:
    """The job ended, or moved to a later time, in the transaction that carried out its effect."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The job is to be run again, after a pause that grows."""

    error: Failure


JobOutcome = Finished | TryAgain

FINISHED: Final = Finished()


class SessionJobs:
    """Handlers of the two jobs every session has."""

    def __init__(
        self, *, store: SessionStore, targets: Mapping[str, Target], agents: Agents
    ) -> None:
        self._store = store
        self._targets = targets
        self._agents = agents

    async def issue(self, claim: JobClaim) -> JobOutcome:
        """Make the login of a pending session."""
        session = await self._still_pending(claim)
        if session is None:
            return FINISHED
        try:
            receipt, sealed = await self._create_login(session)
        except GatekeeperError as error:
            failure = _failure(error)
            if failure.retryable:
                return TryAgain(failure)
            await self._fail(claim, failure)
            return FINISHED
        await self._apply_created(claim, receipt, sealed)
        return FINISHED

    async def end(self, claim: JobClaim) -> JobOutcome:
        """End a session whose time is over or that was revoked, and prove its login gone."""
        begun = await self._begin_end(claim)
        if not isinstance(begun, _Ending):
            return begun
        target = self._targets.get(begun.session.target)
        if target is None:
            return await self._not_gone(begun.session, _target_removed(begun.session.target))
        try:
            receipt = await self._agents.revoke(
                target, begun.session.id, begun.session.correlation_id
            )
        except GatekeeperError as error:
            return await self._not_gone(begun.session, _failure(error))
        if not receipt.value.gone:
            return await self._not_gone(begun.session, _incomplete(receipt.value))
        await self._apply_gone(claim, receipt)
        return FINISHED

    async def _still_pending(self, claim: JobClaim) -> Session | None:
        """Return the session if its login is still wanted; else end the job."""
        async with self._store.transaction() as unit:
            session = await unit.lock(claim.session)
            overdue = (
                session is not None and await unit.now() - session.created_at > PENDING_DEADLINE
            )
        if session is None or session.status is not SessionStatus.PENDING:
            async with self._store.transaction(ends=claim):
                return None
        if overdue:
            await self._fail(claim, _took_too_long(session))
            return None
        return session

    async def _create_login(self, session: Session) -> tuple[Receipt[UserCreated], str | None]:
        target = self._targets.get(session.target)
        if target is None:
            raise TargetMisconfiguredError(_target_removed(session.target).message)
        request = CreateUser(
            session=session.id,
            username=session.username,
            role=session.role,
            ttl=session.ttl,
            verifier=session.verifier or "",
            correlation_id=session.correlation_id,
        )
        if session.verifier is not None:
            return await self._agents.create(target, request), None
        return await self._agents.create_generated(target, request)

    async def _apply_created(
        self, claim: JobClaim, receipt: Receipt[UserCreated], sealed: str | None
    ) -> None:
        """Make the session ready, unless it was ended meanwhile: then its login is undone."""
        async with self._store.transaction(ends=claim) as unit:
            session = await unit.lock(claim.session)
            if session is None or session.status is not SessionStatus.PENDING:
                return
            # Two clocks, one difference: what remains on the target's clock is added to ours.
            expires_at = await unit.now() + (receipt.value.expires_at - receipt.value.target_now)
            ready = await unit.move(
                session, SessionStatus.READY, expires_at=expires_at, sealed_password=sealed
            )
            await unit.schedule_end(ready, expires_at)
            await unit.record(
                session_event(
                    AuditKind.SESSION_READY,
                    ready,
                    at=await unit.now(),
                    actor=SYSTEM,
                    username=ready.username,
                    receipt=receipt.signed,
                )
            )

    async def _fail(self, claim: JobClaim, failure: Failure) -> None:
        """Fail a pending session; what there may be of its login is undone like any other."""
        async with self._store.transaction(ends=claim) as unit:
            session = await unit.lock(claim.session)
            if session is None or session.status is not SessionStatus.PENDING:
                return
            failed = await unit.move(session, SessionStatus.FAILED, error=failure)
            await unit.schedule_end(failed, await unit.now())
            await unit.record(
                session_event(
                    AuditKind.SESSION_FAILED,
                    failed,
                    at=await unit.now(),
                    actor=SYSTEM,
                    code=failure.code,
                    message=failure.message,
                )
            )

    async def _begin_end(self, claim: JobClaim) -> _Ending | JobOutcome:
        async with self._store.transaction() as unit:
            session = await unit.lock(claim.session)
            if session is not None and session.status is SessionStatus.READY:
                now = await unit.now()
                if session.expires_at is not None and now < session.expires_at:
                    await unit.postpone(claim, session.expires_at)
                    return FINISHED
                session = await self._expire(unit, session, now)
        if session is not None and session.status in ENDING:
            return _Ending(session)
        async with self._store.transaction(ends=claim):
            return FINISHED

    @staticmethod
    async def _expire(unit: SessionUnit, session: Session, now: datetime) -> Session:
        expired = await unit.move(session, SessionStatus.EXPIRED)
        await unit.record(session_event(AuditKind.SESSION_EXPIRED, expired, at=now, actor=SYSTEM))
        return expired

    async def _not_gone(self, session: Session, failure: Failure) -> JobOutcome:
        """Keep the session as what it is; say so once for each new reason; try for ever."""
        async with self._store.transaction() as unit:
            current = await unit.lock(session.id)
            if current is not None and current.error != failure:
                noted = await unit.note_error(current, failure)
                await unit.record(
                    session_event(
                        AuditKind.SESSION_CLEANUP_FAILED,
                        noted,
                        at=await unit.now(),
                        actor=SYSTEM,
                        code=failure.code,
                        message=failure.message,
                    )
                )
        return TryAgain(failure)

    async def _apply_gone(self, claim: JobClaim, receipt: Receipt[UserRevoked]) -> None:
        async with self._store.transaction(ends=claim) as unit:
            session = await unit.lock(claim.session)
            if session is None or session.status not in ENDING:
                return
            cleaned = await unit.move(session, SessionStatus.CLEANED)
            now = await unit.now()
            proof = receipt.value
            lag = now - (session.ended_at or now)
            await unit.record(
                session_event(
                    AuditKind.SESSION_CLEANED,
                    cleaned,
                    at=now,
                    actor=SYSTEM,
                    username=cleaned.username,
                    existed=proof.existed,
                    backendsEnded=proof.backends_ended,
                    lagMs=_milliseconds(lag),
                    accessCutLagMs=_milliseconds(lag - (proof.verified_at - proof.access_cut_at)),
                    owned=[f"{o.database}: {name}" for o in proof.owned for name in o.objects],
                    receipt=receipt.signed,
                )
            )


@dataclass(frozen=True, slots=True)
class _Ending:
    session: Session


def _milliseconds(lag: timedelta) -> int:
    return max(0, round(lag.total_seconds() * 1000))


def _failure(error: GatekeeperError) -> Failure:
    return Failure(code=error.code, message=error.detail, retryable=error.retryable)


def _took_too_long(session: Session) -> Failure:
    if session.error is not None:
        return session.error
    return Failure(
        code=ErrorCode.JOB_EXPIRED,
        message=f"the login was not made within {PENDING_DEADLINE.total_seconds():.0f} s",
        retryable=True,
    )


def _target_removed(name: str) -> Failure:
    return Failure(
        code=ErrorCode.TARGET_MISCONFIGURED,
        message=f"target {name!r} is no longer configured; add it again to prove the login gone",
        retryable=True,
    )


def _incomplete(proof: UserRevoked) -> Failure:
    return Failure(
        code=ErrorCode.REVOCATION_INCOMPLETE,
        message="still there: " + ("; ".join(proof.left) or "unknown"),
        retryable=True,
    )
