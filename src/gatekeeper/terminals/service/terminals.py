"""Asking for terminals, seeing, listing and ending them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.kernel import ids, policy, refusals
from gatekeeper.kernel.audit import Actor, AuditKind
from gatekeeper.kernel.errors import Refusal
from gatekeeper.kernel.session import OPEN, SessionStatus
from gatekeeper.terminals import errors
from gatekeeper.terminals.evidence import PLANE, refused_event, terminal_event
from gatekeeper.terminals.model import Ended, Ending, Terminal
from gatekeeper.terminals.ports import Move
from gatekeeper.terminals.service.opening import check, draft, open_terminal
from gatekeeper.terminals.settings import MAX_QUEUED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.kernel.random import Random
    from gatekeeper.terminals.model import NewTerminal, Profile, TerminalFilter
    from gatekeeper.terminals.ports import Logins, PolicySource, TerminalStore, TerminalUnit
    from gatekeeper.terminals.service.seeing import Seeing


class TerminalService:
    """The use-cases behind `/terminals` and `/profiles`.

    New terminals go to `runner`, which policies know as the target; a profile is the role.
    """

    def __init__(
        self,
        *,
        store: TerminalStore,
        runner: str,
        profiles: Mapping[str, Profile],
        policies: PolicySource,
        logins: Logins | None,
        clock: Clock,
        random: Random,
        seeing: Seeing,
    ) -> None:
        self._store = store
        self._runner = runner
        self._profiles = profiles
        self._policies = policies
        self._logins = logins
        self._clock = clock
        self._random = random
        self._seeing = seeing

    async def create(self, principal: Principal, wanted: NewTerminal) -> Terminal | Refusal:
        """Ask for a terminal. The answer is `pending`; a job starts it when there is a place.

        The same idempotency key with the same body returns the terminal it made. With a
        database, the policies of both planes must allow: one request, one answer.
        """
        if (refusal := await self._count_request(principal)) is not None:
            return refusal
        if (known := await self._replayed(principal, wanted)) is not None:
            return known
        profile = self._profiles.get(wanted.profile)
        if profile is None:
            return errors.unknown_profile(wanted.profile, self._profiles)
        if (refusal := check(wanted, profile)) is not None:
            return refusal
        decision = self.decide(principal, profile, wanted.ttl, wanted.reason)
        if not isinstance(decision, policy.Allowed):
            return await self._deny(principal, wanted, refusals.denied(decision))
        ttl = min(decision.ttl, profile.max_ttl)
        if (refusal := await self._refuse_login(principal, wanted, ttl)) is not None:
            return refusal
        return await self._admit(principal, wanted, profile, decision, ttl)

    def decide(
        self, principal: Principal, profile: Profile, ttl: timedelta | None, reason: str
    ) -> policy.Decision:
        """Ask the policy in force; changes nothing."""
        request = policy.AccessRequest(
            principal=principal,
            plane=PLANE,
            target=self._runner,
            role=profile.name,
            ttl=ttl,
            reason=reason,
        )
        return policy.decide(self._policies.current(), request, self._clock.now())

    def profiles(self) -> Sequence[Profile]:
        return tuple(self._profiles.values())

    async def sandbox(self) -> str | None:
        """Return the tier that holds what is started now, as its runner says."""
        runner = await self._store.runner(self._runner)
        return None if runner is None else runner.sandbox

    async def get(self, principal: Principal, terminal: TerminalId) -> Terminal | Refusal:
        found = await self._store.get(terminal)
        if found is None or not self._seeing.may_see(principal, found):
            return errors.no_such_terminal(terminal)
        return found

    async def queue_place(self, terminal: Terminal) -> int | None:
        """Return how many are started before this one; None when it does not wait."""
        if terminal.status is not SessionStatus.PENDING or terminal.has_turn:
            return None
        return await self._store.queue_place(terminal.id)

    async def find(self, wanted: TerminalFilter) -> Sequence[Terminal]:
        """List terminals. The caller narrows `wanted.requester` by `sees_all`."""
        return await self._store.find(wanted)

    def sees_all(self, principal: Principal) -> bool:
        """Tell whether the caller may see, and end, the terminals of others."""
        return self._seeing.sees_all(principal)

    async def stop(
        self, principal: Principal, terminal: TerminalId, correlation_id: str
    ) -> Terminal | Refusal:
        """End a terminal now. Ending one that has ended changes nothing and answers the same."""
        async with self._store.transaction() as unit:
            found = await unit.lock(terminal)
            if found is None or not self._seeing.may_see(principal, found):
                return errors.no_such_terminal(terminal)
            if found.status not in OPEN:
                return found
            ended = Ended(ending=Ending.REVOKED).with_more(found.ended)
            move = Move(terminal=found, to=SessionStatus.REVOKED, ended=ended)
            revoked = await unit.move(move)
            now = await unit.now()
            await unit.schedule_end(revoked, now)
            await unit.record(
                terminal_event(
                    AuditKind.TERMINAL_REVOKED,
                    revoked,
                    at=now,
                    actor=Actor.of(principal),
                    correlation_id=correlation_id,
                )
            )
            return revoked

    async def _count_request(self, principal: Principal) -> Refusal | None:
        """Count what makes a runner work; ending a terminal is never counted with it."""
        most = self._policies.current().limits.requests_per_minute
        wait = await self._store.take_token(principal.key, most)
        return refusals.too_many_requests(most, wait) if wait else None

    async def _replayed(
        self, principal: Principal, wanted: NewTerminal
    ) -> Terminal | Refusal | None:
        if wanted.idempotency_key is None:
            return None
        bound = await self._store.find_key(principal.key, wanted.idempotency_key)
        return None if bound is None else await self._bound_terminal(wanted, bound)

    async def _bound_terminal(
        self, wanted: NewTerminal, bound: tuple[str, TerminalId]
    ) -> Terminal | Refusal:
        body_sha256, terminal = bound
        if body_sha256 != wanted.body_sha256:
            return refusals.key_reused()
        found = await self._store.get(terminal)
        return found if found is not None else errors.no_such_terminal(terminal)

    async def _refuse_login(
        self, principal: Principal, wanted: NewTerminal, ttl: timedelta
    ) -> Refusal | None:
        """Decide the database login of the same request."""
        if wanted.database is None:
            return None
        if self._logins is None:
            return errors.no_databases()
        target, role = wanted.database.target, wanted.database.role
        decision = self._logins.decide(principal, target, role, ttl, wanted.reason)
        if isinstance(decision, Refusal):
            return decision
        if isinstance(decision, policy.Allowed):
            return None
        return await self._deny(principal, wanted, errors.denied_database(decision.explain()))

    async def _deny(self, principal: Principal, wanted: NewTerminal, refusal: Refusal) -> Refusal:
        async with self._store.transaction() as unit:
            await unit.record(
                refused_event(
                    AuditKind.TERMINAL_DENIED,
                    self._runner,
                    at=await unit.now(),
                    actor=Actor.of(principal),
                    correlation_id=wanted.correlation_id,
                    profile=wanted.profile,
                    reason=wanted.reason,
                    because=list(refusal.reasons),
                )
            )
        return refusal

    async def _admit(
        self,
        principal: Principal,
        wanted: NewTerminal,
        profile: Profile,
        decision: policy.Allowed,
        ttl: timedelta,
    ) -> Terminal | Refusal:
        terminal = ids.terminal_id(self._random.bytes(ids.RANDOM_BYTES))
        async with self._store.transaction() as unit:
            bound = await self._claim(unit, principal, wanted, terminal)
            if bound is None:
                if (refusal := await self._refuse_more(unit, principal)) is not None:
                    await unit.abandon()
                    return refusal
                drafted = draft(
                    wanted,
                    terminal=terminal,
                    instance=ids.instance_id(self._random.bytes(ids.RANDOM_BYTES)),
                    runner=self._runner,
                    principal=principal,
                    profile=profile,
                    decision=decision,
                    ttl=ttl,
                    now=await unit.now(),
                )
                return await open_terminal(unit, drafted, principal)
        return await self._bound_terminal(wanted, bound)

    async def _refuse_more(self, unit: TerminalUnit, principal: Principal) -> Refusal | None:
        most = self._policies.current().limits.sessions_per_principal
        if await unit.count_open(principal.key) >= most:
            return errors.too_many_terminals(most)
        if await unit.count_waiting(self._runner) >= MAX_QUEUED:
            return errors.queue_full(MAX_QUEUED)
        return None

    @staticmethod
    async def _claim(
        unit: TerminalUnit, principal: Principal, wanted: NewTerminal, terminal: TerminalId
    ) -> tuple[str, TerminalId] | None:
        if wanted.idempotency_key is None:
            return None
        return await unit.claim_key(
            principal.key, wanted.idempotency_key, wanted.body_sha256, terminal
        )
