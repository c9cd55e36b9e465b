"""The one fake of the `Agents` port: a world of targets that tests can change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from gatekeeper.databases.errors import TargetRefusedError, TargetUnreachableError
from gatekeeper.databases.model import (
    Check,
    CheckStatus,
    EndUser,
    ManagedUser,
    Target,
    UserCreated,
    UserRevoked,
)
from gatekeeper.databases.ports import Receipt
from gatekeeper.kernel.errors import Failure, GatekeeperError
from gatekeeper.kernel.ids import RoleName, SessionId, role_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatekeeper.databases.model import Session

GRACE = timedelta(seconds=30)
"""How long an overdue login is left to the job that ends its session."""

A = TypeVar("A")
T = TypeVar("T")


@dataclass
class FakeAgents:
    """Keeps the logins of a world in memory, with the promises of the real one.

    `fail_next` errors are raised, one a call; `reachable` False fails every call;
    `stuck` logins cannot be ended; `skew` is the target's clock against ours.
    """

    logins: dict[RoleName, datetime] = field(default_factory=dict)
    ended: set[RoleName] = field(default_factory=set)
    made: int = 0
    reachable: bool = True
    stuck: set[RoleName] = field(default_factory=set)
    drifted: dict[RoleName, str] = field(default_factory=dict)
    fail_next: list[GatekeeperError] = field(default_factory=list)
    lose_answers: int = 0
    skew: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skew  # noqa: TID251  # the world's own clock

    async def create(
        self, target: Target, sessions: Sequence[Session]
    ) -> tuple[Receipt[UserCreated] | Failure, ...]:
        return tuple([_answered(self._create, session) for session in sessions])

    def _create(self, session: Session) -> Receipt[UserCreated]:
        self._answer()
        name = role_name(session.id)
        if name in self.ended:
            msg = "the login was ended before"
            raise TargetRefusedError(msg)
        existed = name in self.logins
        if not existed:
            self.logins[name] = self.now() + session.ttl
            self.made += 1
        self._lose()
        return _receipt(
            UserCreated(
                username=name,
                expires_at=self.logins[name],
                target_now=self.now(),
                already_existed=existed,
                sealed_password="sealed",
            )
        )

    async def revoke(
        self, target: Target, ended: Sequence[EndUser]
    ) -> tuple[Receipt[UserRevoked] | Failure, ...]:
        return tuple([_answered(self._revoke, one) for one in ended])

    def _revoke(self, ended: EndUser) -> Receipt[UserRevoked]:
        self._answer()
        name = role_name(ended.session)
        self.ended.add(name)
        existed, gone = name in self.logins, name not in self.stuck
        if gone:
            self.logins.pop(name, None)
        self._lose()
        return _receipt(
            UserRevoked(
                username=name,
                existed=existed,
                gone=gone,
                backends_ended=0,
                access_cut_at=self.now(),
                verified_at=self.now(),
                left=() if gone else ("objects in app",),
            )
        )

    async def extend(
        self, target: Target, session: SessionId, ttl: timedelta, correlation_id: str
    ) -> Receipt[UserCreated]:
        self._answer()
        name = role_name(session)
        if name in self.ended or name not in self.logins:
            msg = "there is no such login, or it was ended"
            raise TargetRefusedError(msg)
        self.logins[name] = self.now() + ttl
        self._lose()
        return _receipt(
            UserCreated(
                username=name,
                expires_at=self.logins[name],
                target_now=self.now(),
                already_existed=True,
            )
        )

    async def list_users(
        self, target: Target, correlation_id: str
    ) -> Receipt[tuple[ManagedUser, ...]]:
        self._answer()
        return _receipt(
            tuple(
                ManagedUser(
                    username=name,
                    can_login=True,
                    expires_at=ends,
                    backends=0,
                    packs=frozenset({"app_read"}),
                    drift=(self.drifted[name],) if name in self.drifted else (),
                )
                for name, ends in self.logins.items()
            )
        )

    async def clean_up(self, target: Target, correlation_id: str) -> Receipt[tuple[RoleName, ...]]:
        self._answer()
        overdue = sorted(
            name
            for name, ends in self.logins.items()
            if name not in self.stuck and (name in self.ended or ends + GRACE < self.now())
        )
        for name in overdue:
            self.ended.add(name)
            del self.logins[name]
        return _receipt(tuple(overdue))

    async def doctor(self, target: Target, correlation_id: str) -> tuple[Check, ...]:
        self._answer()
        return (Check(name="version", status=CheckStatus.OK, detail="a fake"),)

    def _answer(self) -> None:
        if not self.reachable:
            msg = "the target does not answer"
            raise TargetUnreachableError(msg)
        if self.fail_next:
            raise self.fail_next.pop(0)

    def _lose(self) -> None:
        """Carry a call out and lose its answer, as a network does."""
        if self.lose_answers:
            self.lose_answers -= 1
            msg = "the answer was lost"
            raise TargetUnreachableError(msg)


def _answered(act: Callable[[A], Receipt[T]], asked: A) -> Receipt[T] | Failure:
    try:
        return act(asked)
    except GatekeeperError as error:
        return Failure.of(error)


def _receipt(value: T) -> Receipt[T]:
    return Receipt(value=value, agent="fake", signed="a.b.c")
