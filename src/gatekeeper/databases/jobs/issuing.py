"""The job that makes the login of a pending session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.databases.evidence import session_event
from gatekeeper.databases.jobs.asking import answers_of
from gatekeeper.databases.model import Move
from gatekeeper.databases.settings import PENDING_DEADLINE
from gatekeeper.kernel.audit import SYSTEM, AuditKind, timestamp
from gatekeeper.kernel.errors import ErrorCode, Failure
from gatekeeper.kernel.jobs import FINISHED, TryAgain
from gatekeeper.kernel.session import SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from gatekeeper.databases.model import Session, Target, UserCreated
    from gatekeeper.databases.ports import Agents, JobClaim, Receipt, SessionStore, SessionUnit
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.jobs import JobOutcome

    Answer = Receipt[UserCreated] | Failure


class Issuing:
    """Makes the logins of pending sessions, and these sessions ready.

    `issued` hears of each that became so.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        targets: Mapping[str, Target],
        agents: Agents,
        issued: Callable[[Session], None] = lambda _session: None,
    ) -> None:
        self._store = store
        self._targets = targets
        self._agents = agents
        self._issued = issued

    async def __call__(self, claims: Sequence[JobClaim]) -> Sequence[JobOutcome]:
        """Run the jobs of some sessions of one target."""
        wanted, asked_at = await self._still_wanted(claims)
        answers = await answers_of(
            self._agents.create, wanted, self._targets, target_may_return=False
        )
        final = [claim for claim in claims if _is_final(answers.get(claim.session))]
        if final:
            await self._apply(final, answers, asked_at)
        return [_outcome(answers.get(claim.session)) for claim in claims]

    async def _still_wanted(self, claims: Sequence[JobClaim]) -> tuple[Sequence[Session], datetime]:
        """Return the sessions whose login is still wanted, and when; end the jobs of the others."""
        wanted, now = await self._store.pending([c.session for c in claims], PENDING_DEADLINE)
        known = {session.id for session in wanted}
        if unwanted := [claim for claim in claims if claim.session not in known]:
            await self._give_up(unwanted)
        return wanted, now

    async def _give_up(self, claims: Sequence[JobClaim]) -> None:
        async with self._store.transaction() as unit:
            held = await unit.settle(claims)
            sessions = await unit.lock_all([claim.session for claim in held])
            late = [s for s in sessions.values() if s.status is SessionStatus.PENDING]
            await _fail(unit, [(session, _took_too_long(session)) for session in late])

    async def _apply(
        self, claims: Sequence[JobClaim], answers: Mapping[SessionId, Answer], asked_at: datetime
    ) -> None:
        """Make sessions ready, or failed, unless they were ended meanwhile.

        The login of one that was ended is undone by the job that ends every session.
        """
        async with self._store.transaction() as unit:
            held = await unit.settle(claims)
            sessions = await unit.lock_all([claim.session for claim in held])
            pending = [s for s in sessions.values() if s.status is SessionStatus.PENDING]
            made, failed = [], []
            for session in pending:
                answer = answers[session.id]
                if isinstance(answer, Failure):
                    failed.append((session, answer))
                else:
                    made.append((session, answer))
            await _fail(unit, failed)
            ready = await _make_ready(unit, made, asked_at)
        for session in ready:
            self._issued(session)


async def _make_ready(
    unit: SessionUnit, made: Sequence[tuple[Session, Receipt[UserCreated]]], asked_at: datetime
) -> Sequence[Session]:
    if not made:
        return ()
    now = await unit.now()
    ready = await unit.move_all(
        [
            Move(
                session=session,
                to=SessionStatus.READY,
                expires_at=_ends_at(receipt.value, asked_at),
                sealed_password=receipt.value.sealed_password,
            )
            for session, receipt in made
        ]
    )
    await unit.schedule_ends([(session, session.expires_at or now) for session in ready])
    receipts = {session.id: receipt.signed for session, receipt in made}
    await unit.record(
        *(
            session_event(
                AuditKind.SESSION_READY,
                session,
                at=now,
                actor=SYSTEM,
                username=session.username,
                expiresAt=timestamp(session.expires_at or now),
                receipt=receipts[session.id],
            )
            for session in ready
        )
    )
    return ready


async def _fail(unit: SessionUnit, failures: Sequence[tuple[Session, Failure]]) -> None:
    """Fail pending sessions; what there may be of their logins is undone like any other."""
    if not failures:
        return
    now = await unit.now()
    failed = await unit.move_all(
        [Move(session=session, to=SessionStatus.FAILED, error=why) for session, why in failures]
    )
    await unit.schedule_ends([(session, now) for session in failed])
    reasons = {session.id: why for session, why in failures}
    await unit.record(
        *(
            session_event(
                AuditKind.SESSION_FAILED,
                session,
                at=now,
                actor=SYSTEM,
                code=reasons[session.id].code,
                message=reasons[session.id].message,
            )
            for session in failed
        )
    )


def _ends_at(made: UserCreated, asked_at: datetime) -> datetime:
    """Two clocks, one difference: what remains on the target's clock is added to ours.

    To ours as it was before the agent was asked: an answer that is late must not lengthen
    the access.
    """
    return asked_at + (made.expires_at - made.target_now)


def _is_final(answer: Answer | None) -> bool:
    return answer is not None and not (isinstance(answer, Failure) and answer.retryable)


def _outcome(answer: Answer | None) -> JobOutcome:
    if isinstance(answer, Failure) and answer.retryable:
        return TryAgain(answer)
    return FINISHED


def _took_too_long(session: Session) -> Failure:
    if session.error is not None:
        return session.error
    return Failure(
        code=ErrorCode.JOB_EXPIRED,
        message=f"the login was not made within {PENDING_DEADLINE.total_seconds():.0f} s",
        retryable=True,
    )
