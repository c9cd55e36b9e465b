"""Reconcile: compare what a target has with what the store knows, plan, and repair safely.

Nothing is touched that Gatekeeper did not make: a login is ours by its name, and
only the names that the target itself lists as ours are considered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from gatekeeper.databases.evidence import target_event
from gatekeeper.databases.model import EndUser, Move
from gatekeeper.kernel.audit import Actor, AuditKind
from gatekeeper.kernel.errors import Failure, GatekeeperError
from gatekeeper.kernel.ids import session_of
from gatekeeper.kernel.session import ENDING, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from gatekeeper.databases.model import Check, ManagedUser, Session, Target
    from gatekeeper.databases.ports import Agents, SessionStore
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import RoleName, SessionId


class DriftKind(StrEnum):
    LEAKED = "leaked"
    """The target has a login of ours that the store never knew, or knows as gone."""
    MISSING = "missing"
    """The store says ready, the target has no such login: it was dropped behind our back."""
    EXPIRED = "expired"
    """Its time is over and it is still there."""
    CHANGED = "changed"
    """Its password, attributes or memberships are not as they were made."""


class Action(StrEnum):
    END = "end the login and prove it gone"
    END_SESSION = "revoke the session"
    RETRY = "run its clean-up now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference, and what is done about it."""

    target: str
    username: RoleName
    session: SessionId
    kind: DriftKind
    detail: str
    action: Action
    problem: str | None = None
    """Why a repair has not succeeded yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What differs, and which targets could not be looked at, or not to the end."""

    drifts: tuple[Drift, ...]
    unseen: Mapping[str, Failure]


def compare(
    target: str, users: Iterable[ManagedUser], sessions: Iterable[Session], now: datetime
) -> tuple[Drift, ...]:
    """Return what differs. Pure: `sessions` are those the store does not call cleaned.

    A pending session may or may not have its login yet, so it is no drift either way.
    """
    known = {session.username: session for session in sessions}
    present = {user.username: user for user in users}
    found = [
        drift
        for user in present.values()
        if (drift := _of_user(target, user, known.get(user.username), now)) is not None
    ]
    found += [
        _drift(
            target,
            session.username,
            DriftKind.MISSING,
            "the store says ready, the target has no such login",
            Action.END_SESSION,
        )
        for session in known.values()
        if session.status is SessionStatus.READY and session.username not in present
    ]
    return tuple(sorted(found, key=lambda drift: (drift.kind, drift.username)))


def _of_user(
    target: str, user: ManagedUser, session: Session | None, now: datetime
) -> Drift | None:
    name = user.username
    if session is None:
        return _drift(
            target, name, DriftKind.LEAKED, "the store knows no live session of it", Action.END
        )
    if session.status in ENDING:
        return _drift(
            target,
            name,
            DriftKind.EXPIRED,
            f"the session is {session.status} and the login is still there",
            Action.RETRY,
        )
    if session.expires_at is not None and session.expires_at <= now:
        return _drift(target, name, DriftKind.EXPIRED, "its time is over", Action.RETRY)
    if user.drift and session.status is SessionStatus.READY:
        detail = "; ".join(user.drift)
        return _drift(target, name, DriftKind.CHANGED, detail, Action.END_SESSION)
    return None


def _drift(target: str, username: RoleName, kind: DriftKind, detail: str, action: Action) -> Drift:
    return Drift(
        target=target,
        username=username,
        session=session_of(username),
        kind=kind,
        detail=detail,
        action=action,
    )


class ReconcileService:
    """Finds drift at targets and repairs it."""

    def __init__(self, *, store: SessionStore, agents: Agents) -> None:
        self._store = store
        self._agents = agents

    async def doctor(self, target: Target, correlation_id: str) -> tuple[Check, ...]:
        return await self._agents.doctor(target, correlation_id)

    async def reconcile(
        self,
        principal: Principal,
        targets: Sequence[Target],
        *,
        apply: bool,
        correlation_id: str,
    ) -> Reconciliation:
        """Find every drift; with `apply`, repair each and leave evidence of it."""
        drifts: list[Drift] = []
        unseen: dict[str, Failure] = {}
        for target in targets:
            try:
                found = await self._find(target, correlation_id)
                drifts += (
                    [await self._repair(principal, target, d, correlation_id) for d in found]
                    if apply
                    else found
                )
            except GatekeeperError as error:
                unseen[target.name] = Failure.of(error)
        return Reconciliation(drifts=tuple(drifts), unseen=unseen)

    async def _find(self, target: Target, correlation_id: str) -> tuple[Drift, ...]:
        # Logins first: a session made in between is then known to the store, not leaked.
        users = await self._agents.list_users(target, correlation_id)
        sessions = await self._store.not_cleaned(target.name)
        async with self._store.transaction() as unit:
            now = await unit.now()
        return compare(target.name, users.value, sessions, now)

    async def _repair(
        self, principal: Principal, target: Target, drift: Drift, correlation_id: str
    ) -> Drift:
        """Repair one; return it, with what went wrong if it still stands."""
        evidence: dict[str, str] = {}
        if drift.action is Action.END:
            evidence = await self._end(target, drift.session, correlation_id)
        async with self._store.transaction() as unit:
            session = await unit.lock(drift.session)
            now = await unit.now()
            if drift.action is not Action.END and session is not None:
                if drift.action is Action.END_SESSION and session.status is SessionStatus.READY:
                    (session,) = await unit.move_all(
                        [Move(session=session, to=SessionStatus.REVOKED)]
                    )
                await unit.schedule_ends([(session, now)])
            await unit.record(
                target_event(
                    AuditKind.TARGET_RECONCILED,
                    target.name,
                    at=now,
                    actor=Actor.of(principal),
                    correlation_id=correlation_id,
                    session=drift.session,
                    drift=drift.kind,
                    detail=drift.detail,
                    action=drift.action,
                    **evidence,
                )
            )
        return replace(drift, problem=evidence.get("problem"))

    async def _end(self, target: Target, session: SessionId, correlation_id: str) -> dict[str, str]:
        """End a login that no session stands for; return the receipt, or why it still stands."""
        ended = EndUser(session=session, correlation_id=correlation_id)
        (answer,) = await self._agents.revoke(target, [ended])
        if isinstance(answer, Failure):
            return {"problem": answer.message}
        short = answer.value.shortfall()
        return {"receipt": answer.signed} | ({} if short is None else {"problem": short.message})
