"""The job that ends a session whose time is over or that was revoked, and proves it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from gatekeeper.databases.evidence import session_event
from gatekeeper.databases.jobs.asking import answers_of
from gatekeeper.databases.model import EndUser, Move
from gatekeeper.kernel.audit import SYSTEM, AuditKind
from gatekeeper.kernel.errors import Failure
from gatekeeper.kernel.jobs import FINISHED, TryAgain
from gatekeeper.kernel.session import ENDING, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from gatekeeper.databases.model import Session, Target, UserRevoked
    from gatekeeper.databases.ports import Agents, JobClaim, Receipt, SessionStore, SessionUnit
    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.jobs import JobOutcome

    Answer = Receipt[UserRevoked] | Failure


class Ending:
    """Ends sessions at their targets until each is proven gone; it never gives up.

    `cleaned` hears of each that is, and how long after its end its access was cut.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        targets: Mapping[str, Target],
        agents: Agents,
        cleaned: Callable[[Session, timedelta], None] = lambda _session, _lag: None,
    ) -> None:
        self._store = store
        self._targets = targets
        self._agents = agents
        self._cleaned = cleaned

    async def __call__(self, claims: Sequence[JobClaim]) -> Sequence[JobOutcome]:
        """Run the jobs of some sessions of one target."""
        ending = await self._begin(claims)
        answers = await answers_of(self._revoke, ending, self._targets, target_may_return=True)
        failures = {name: why for name, why in answers.items() if isinstance(why, Failure)}
        proofs = {name: a for name, a in answers.items() if not isinstance(a, Failure)}
        if proofs:
            await self._apply_gone([c for c in claims if c.session in proofs], proofs)
        if failures:
            await self._note(failures)
        return [
            TryAgain(failures[claim.session]) if claim.session in failures else FINISHED
            for claim in claims
        ]

    async def _begin(self, claims: Sequence[JobClaim]) -> Sequence[Session]:
        """Return the sessions that end now; give back the jobs of others, or end them."""
        async with self._store.transaction() as unit:
            sessions = await unit.lock_all([claim.session for claim in claims])
            now = await unit.now()
            due = [s for s in sessions.values() if _is_due(s, now)]
            expired = await _expire(unit, due, now)
            ending = {s.id: s for s in sessions.values() if s.status in ENDING}
            ending |= {session.id: session for session in expired}
            done = []
            for claim in claims:
                later = _later(sessions.get(claim.session), now)
                if later is not None:
                    await unit.postpone(claim, later)
                elif claim.session not in ending:
                    done.append(claim)
            if done:
                await unit.settle(done)
        return list(ending.values())

    async def _revoke(self, target: Target, sessions: Sequence[Session]) -> Sequence[Answer]:
        ended = [EndUser(session=s.id, correlation_id=s.correlation_id) for s in sessions]
        return [_proven(answer) for answer in await self._agents.revoke(target, ended)]

    async def _note(self, failures: Mapping[SessionId, Failure]) -> None:
        """Keep sessions as what they are; say why once for each new reason.

        One may be cleaned by now: another run of its job was faster than a late answer.
        """
        async with self._store.transaction() as unit:
            for session in (await unit.lock_all(list(failures))).values():
                why = failures[session.id]
                if session.status in ENDING and session.error != why:
                    noted = await unit.note_error(session, why)
                    await unit.record(
                        session_event(
                            AuditKind.SESSION_CLEANUP_FAILED,
                            noted,
                            at=await unit.now(),
                            actor=SYSTEM,
                            code=why.code,
                            message=why.message,
                        )
                    )

    async def _apply_gone(
        self, claims: Sequence[JobClaim], proofs: Mapping[SessionId, Receipt[UserRevoked]]
    ) -> None:
        async with self._store.transaction() as unit:
            held = await unit.settle(claims)
            sessions = await unit.lock_all([claim.session for claim in held])
            cleaned = await unit.move_all(
                [
                    Move(session=session, to=SessionStatus.CLEANED)
                    for session in sessions.values()
                    if session.status in ENDING
                ]
            )
            now = await unit.now()
            await unit.record(*(_cleaned(session, proofs[session.id], now) for session in cleaned))
        for session in cleaned:
            self._cleaned(session, _access_cut_lag(session, proofs[session.id].value))


async def _expire(unit: SessionUnit, due: Sequence[Session], now: datetime) -> Sequence[Session]:
    if not due:
        return ()
    expired = await unit.move_all([Move(session=s, to=SessionStatus.EXPIRED) for s in due])
    await unit.record(
        *(session_event(AuditKind.SESSION_EXPIRED, s, at=now, actor=SYSTEM) for s in expired)
    )
    return expired


def _is_due(session: Session, now: datetime) -> bool:
    return session.status is SessionStatus.READY and _later(session, now) is None


def _later(session: Session | None, now: datetime) -> datetime | None:
    """Return when a ready session ends, if that is not yet: it was extended."""
    if session is None or session.status is not SessionStatus.READY:
        return None
    ends = session.expires_at
    return ends if ends is not None and ends > now else None


def _proven(answer: Answer) -> Answer:
    """Take nothing for gone but what was read back from the target."""
    if isinstance(answer, Failure):
        return answer
    return answer.value.shortfall() or answer


def _cleaned(session: Session, receipt: Receipt[UserRevoked], now: datetime) -> AuditEvent:
    proof = receipt.value
    return session_event(
        AuditKind.SESSION_CLEANED,
        session,
        at=now,
        actor=SYSTEM,
        username=session.username,
        existed=proof.existed,
        backendsEnded=proof.backends_ended,
        lagMs=_milliseconds(session.cleanup_lag()),
        accessCutLagMs=_milliseconds(_access_cut_lag(session, proof)),
        owned=[f"{o.database}: {name}" for o in proof.owned for name in o.objects],
        receipt=receipt.signed,
    )


def _access_cut_lag(session: Session, proof: UserRevoked) -> timedelta:
    """Two clocks, one difference: how long the proof took on the target's is taken from ours."""
    lag = session.cleanup_lag() - (proof.verified_at - proof.access_cut_at)
    return max(lag, timedelta())


def _milliseconds(lag: timedelta) -> int:
    return round(lag.total_seconds() * 1000)
