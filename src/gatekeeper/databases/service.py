"""What a caller can do with database sessions. Each use-case: load, decide, act, record.

A foreseen refusal is returned as a `Refusal`; the store's transaction holds the
session, its job and its evidence together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.databases import errors
from gatekeeper.databases.evidence import PLANE, session_event, target_event
from gatekeeper.databases.model import Move, Session
from gatekeeper.kernel import ids, policy, refusals
from gatekeeper.kernel.audit import SYSTEM, Actor, AuditKind, timestamp
from gatekeeper.kernel.scram import is_verifier
from gatekeeper.kernel.session import OPEN, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from gatekeeper.databases.model import NewSession, SessionFilter, Target
    from gatekeeper.databases.ports import Agents, PolicySource, Sealer, SessionStore, SessionUnit
    from gatekeeper.kernel.audit import Json
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.errors import Refusal
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.kernel.random import Random


class SessionService:
    """The use-cases behind `/sessions`."""

    def __init__(
        self,
        *,
        store: SessionStore,
        targets: Mapping[str, Target],
        policies: PolicySource,
        agents: Agents,
        sealer: Sealer,
        clock: Clock,
        random: Random,
        is_operator: Callable[[Principal], bool],
    ) -> None:
        self._store = store
        self._targets = targets
        self._policies = policies
        self._agents = agents
        self._sealer = sealer
        self._clock = clock
        self._random = random
        self._is_operator = is_operator

    async def create(self, principal: Principal, wanted: NewSession) -> Session | Refusal:
        """Ask for a session. The answer is `pending`; its login is made by an agent.

        The same idempotency key with the same body returns the session it made.
        """
        if (refusal := await self._count_request(principal)) is not None:
            return refusal
        if (known := await self._replayed(principal, wanted)) is not None:
            return known
        target = self._targets.get(wanted.target)
        if target is None:
            return errors.unknown_target(wanted.target, self._targets)
        if (refusal := _invalid(wanted, target)) is not None:
            return refusal
        decision = self.decide(principal, wanted.target, wanted.role, wanted.ttl, wanted.reason)
        if not isinstance(decision, policy.Allowed):
            return await self._deny(principal, wanted, decision)
        ttl = min(decision.ttl, target.max_ttl)
        if (refusal := errors.ttl_out_of_bounds(wanted.ttl or ttl, target)) is not None:
            return refusal
        most_open = self._policies.current().limits.sessions_per_principal
        return await self._admit(principal, wanted, decision, ttl, most_open)

    def decide(
        self,
        principal: Principal,
        target: str,
        role: str,
        ttl: timedelta | None,
        reason: str,
        *,
        plane: str = PLANE,
    ) -> policy.Decision:
        """Ask the policy in force, which is that of all planes; changes nothing."""
        request = policy.AccessRequest(
            principal=principal, plane=plane, target=target, role=role, ttl=ttl, reason=reason
        )
        return policy.decide(self._policies.current(), request, self._clock.now())

    async def get(self, principal: Principal, session: SessionId) -> Session | Refusal:
        found = await self._store.get(session)
        if found is None or not self._may_see(principal, found):
            return errors.no_such_session(session)
        return found

    async def find(self, wanted: SessionFilter) -> Sequence[Session]:
        """List sessions. The caller narrows `wanted.requester` by `sees_all`."""
        return await self._store.find(wanted)

    def sees_all(self, principal: Principal) -> bool:
        """Tell whether the caller may see, and end, the sessions of others."""
        return self._is_operator(principal)

    async def revoke(
        self, principal: Principal, session: SessionId, correlation_id: str
    ) -> Session | Refusal:
        """End a session now. Ending one that has ended changes nothing and answers the same."""
        return await self._revoke(
            session,
            actor=Actor.of(principal),
            correlation_id=correlation_id,
            may_see=lambda found: self._may_see(principal, found),
        )

    async def end(
        self, session: SessionId, correlation_id: str, *, because: str
    ) -> Session | Refusal:
        """End a session as nobody's wish but ours, and say why: what it was made for is over."""
        return await self._revoke(
            session,
            actor=SYSTEM,
            correlation_id=correlation_id,
            may_see=lambda _found: True,
            because=because,
        )

    async def extend(
        self, principal: Principal, session: SessionId, ttl: timedelta, correlation_id: str
    ) -> Session | Refusal:
        """Move the end of a ready session to `ttl` from now, within what its grant allows.

        The target is asked first: if we stop in between, the login still ends at the
        store's earlier time.
        """
        if (refusal := await self._count_request(principal)) is not None:
            return refusal
        async with self._store.transaction() as unit:
            found = await unit.lock(session)
            now = await unit.now()
        if found is None or found.requester != principal.key:
            return errors.no_such_session(session)
        if (refusal := self._may_extend(principal, found, ttl, now)) is not None:
            return refusal
        receipt = await self._agents.extend(
            self._targets[found.target], session, ttl, correlation_id
        )
        async with self._store.transaction() as unit:
            current = await unit.lock(session)
            if current is None or current.status is not SessionStatus.READY:
                return errors.not_ready((found if current is None else current).status)
            ends = now + (receipt.value.expires_at - receipt.value.target_now)
            extended = await unit.set_expiry(current, ends)
            await unit.schedule_ends([(extended, ends)])
            await unit.record(
                session_event(
                    AuditKind.SESSION_EXTENDED,
                    extended,
                    at=now,
                    actor=Actor.of(principal),
                    correlation_id=correlation_id,
                    ttlSeconds=int(ttl.total_seconds()),
                    expiresAt=timestamp(ends),
                    receipt=receipt.signed,
                )
            )
            return extended

    def password(self, principal: Principal, session: Session) -> str | None:
        """Return a generated password: to its requester alone, and only while it works."""
        if session.sealed_password is None or session.status is not SessionStatus.READY:
            return None
        if session.requester != principal.key:
            return None
        return self._sealer.open(session.sealed_password)

    def targets(self) -> Sequence[Target]:
        return tuple(self._targets.values())

    def target(self, name: str) -> Target | Refusal:
        found = self._targets.get(name)
        return found if found is not None else errors.unknown_target(name, self._targets)

    async def _revoke(
        self,
        session: SessionId,
        *,
        actor: Actor,
        correlation_id: str,
        may_see: Callable[[Session], bool],
        **said: Json,
    ) -> Session | Refusal:
        async with self._store.transaction() as unit:
            found = await unit.lock(session)
            if found is None or not may_see(found):
                return errors.no_such_session(session)
            if found.status not in OPEN:
                return found
            (revoked,) = await unit.move_all([Move(session=found, to=SessionStatus.REVOKED)])
            now = await unit.now()
            await unit.schedule_ends([(revoked, now)])
            await unit.record(
                session_event(
                    AuditKind.SESSION_REVOKED,
                    revoked,
                    at=now,
                    actor=actor,
                    correlation_id=correlation_id,
                    **said,
                )
            )
            return revoked

    async def _count_request(self, principal: Principal) -> Refusal | None:
        """Count what makes an agent work; ending a session is never counted with it."""
        most = self._policies.current().limits.requests_per_minute
        wait = await self._store.take_token(principal.key, most)
        return refusals.too_many_requests(most, wait) if wait else None

    async def _replayed(self, principal: Principal, wanted: NewSession) -> Session | Refusal | None:
        if wanted.idempotency_key is None:
            return None
        bound = await self._store.find_key(principal.key, wanted.idempotency_key)
        return None if bound is None else await self._bound_session(wanted, bound)

    async def _bound_session(
        self, wanted: NewSession, bound: tuple[str, SessionId]
    ) -> Session | Refusal:
        body_sha256, session = bound
        if body_sha256 != wanted.body_sha256:
            return refusals.key_reused()
        found = await self._store.get(session)
        return found if found is not None else errors.no_such_session(session)

    async def _deny(
        self,
        principal: Principal,
        wanted: NewSession,
        decision: policy.Denied | policy.NeedsApproval,
    ) -> Refusal:
        refusal = refusals.denied(decision)
        async with self._store.transaction() as unit:
            await unit.record(
                target_event(
                    AuditKind.SESSION_DENIED,
                    wanted.target,
                    at=await unit.now(),
                    actor=Actor.of(principal),
                    correlation_id=wanted.correlation_id,
                    role=wanted.role,
                    reason=wanted.reason,
                    because=list(refusal.reasons),
                )
            )
        return refusal

    async def _admit(
        self,
        principal: Principal,
        wanted: NewSession,
        decision: policy.Allowed,
        ttl: timedelta,
        most_open: int,
    ) -> Session | Refusal:
        session = ids.session_id(self._random.bytes(ids.RANDOM_BYTES))
        async with self._store.transaction() as unit:
            bound = await self._claim(unit, principal, wanted, session)
            if bound is None:
                if await unit.count_open(principal.key) >= most_open:
                    await unit.abandon()
                    return errors.too_many_sessions(most_open)
                now = await unit.now()
                draft = _new_session(
                    session=session,
                    principal=principal,
                    wanted=wanted,
                    decision=decision,
                    ttl=ttl,
                    now=now,
                )
                return await self._open(unit, draft, principal)
        return await self._bound_session(wanted, bound)

    @staticmethod
    async def _claim(
        unit: SessionUnit, principal: Principal, wanted: NewSession, session: SessionId
    ) -> tuple[str, SessionId] | None:
        if wanted.idempotency_key is None:
            return None
        return await unit.claim_key(
            principal.key, wanted.idempotency_key, wanted.body_sha256, session
        )

    @staticmethod
    async def _open(unit: SessionUnit, draft: Session, principal: Principal) -> Session:
        session = await unit.add(draft)
        await unit.schedule_issue(session)
        await unit.record(
            session_event(
                AuditKind.SESSION_CREATED,
                session,
                at=session.created_at,
                actor=Actor.of(principal),
                grant=session.grant,
                ttlSeconds=int(session.ttl.total_seconds()),
                reason=session.reason,
                credential="generated" if session.verifier is None else "scram-sha-256",
            )
        )
        return session

    def _may_see(self, principal: Principal, session: Session) -> bool:
        return session.requester == principal.key or self._is_operator(principal)

    def _may_extend(
        self, principal: Principal, session: Session, ttl: timedelta, now: datetime
    ) -> Refusal | None:
        if session.status is not SessionStatus.READY or session.ready_at is None:
            return errors.not_ready(session.status)
        decision = self.decide(principal, session.target, session.role, ttl, session.reason)
        if not isinstance(decision, policy.Allowed):
            return refusals.denied(decision)
        most = min(session.max_ttl, decision.max_ttl, self._targets[session.target].max_ttl)
        if now + ttl - session.ready_at > most:
            return errors.lives_too_long(most)
        return None


def _new_session(
    *,
    session: SessionId,
    principal: Principal,
    wanted: NewSession,
    decision: policy.Allowed,
    ttl: timedelta,
    now: datetime,
) -> Session:
    return Session(
        id=session,
        status=SessionStatus.PENDING,
        requester=principal.key,
        requester_email=principal.email,
        target=wanted.target,
        role=wanted.role,
        reason=wanted.reason,
        grant=decision.grant,
        username=ids.role_name(session),
        ttl=ttl,
        max_ttl=decision.max_ttl,
        verifier=wanted.verifier,
        sealed_password=None,
        correlation_id=wanted.correlation_id,
        created_at=now,
        ready_at=None,
        expires_at=None,
        ended_at=None,
        cleaned_at=None,
        error=None,
    )


def _invalid(wanted: NewSession, target: Target) -> Refusal | None:
    if wanted.role not in target.roles:
        return errors.unknown_role(wanted.role, target)
    if wanted.verifier is not None and not is_verifier(wanted.verifier):
        return errors.not_a_verifier()
    return None
