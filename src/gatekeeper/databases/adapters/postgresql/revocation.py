"""The end of logins, proven: off, backends gone, objects handled, dropped, read again.

Many logins go through each step together: a target is asked once a step, not once a
login, so that a thousand that end in one second are cut within it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from psycopg import sql

from gatekeeper.databases.adapters.postgresql.translate import error_of
from gatekeeper.databases.model import ObjectPolicy, OwnedObjects, UserRevoked
from gatekeeper.kernel.errors import Failure, GatekeeperError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from gatekeeper.databases.adapters.postgresql.helpers import Helpers, Row
    from gatekeeper.kernel.ids import RoleName

BACKENDS_SECONDS: Final = 10.0
"""How long to wait for told backends to be gone before the job is tried again."""
POLL_SECONDS: Final = 0.003
SLOWEST_POLL_SECONDS: Final = 0.05
SWITCH_OFF_TRIES: Final = 2
PASSED_SECONDS: Final = 1.0
"""A log-in that waits for nothing is seen this soon after it was let in. One that takes longer
has still to prove who it is (a minute, if it likes), and will be refused: it holds up nobody."""
LOCKED: Final = "55P03"
MOST_PORTIONS: Final = 20
"""Of a thousand large objects, in one try; what is left is for the next."""


@dataclass(slots=True)
class _Login:
    """What is known of one login on its way out."""

    existed: bool = False
    failed: Failure | None = None
    """What kept it from being switched off or seen gone, or its objects from being handled."""
    backends: int = 0
    cut_at: datetime | None = None
    owned: tuple[OwnedObjects, ...] = ()


class Revocation:
    """One batch of logins. Safe to repeat at any time, also side by side with another."""

    def __init__(
        self, helpers: Helpers, usernames: Sequence[RoleName], objects: ObjectPolicy
    ) -> None:
        self._helpers = helpers
        self._objects = objects
        self._logins = {name: _Login() for name in usernames}

    async def run(self) -> tuple[UserRevoked | Failure, ...]:
        """End them all; answer in the order asked, with a proof or why there is none.

        Those that could not be switched off are tried again once the others are gone: a
        holder can keep his own role locked in an open transaction, which goes with his
        backends; what else may keep it locked must not hold up the others.
        """
        pending: Collection[RoleName] = list(self._logins)
        for _ in range(SWITCH_OFF_TRIES):
            off = await self._switch_off(pending)
            late = await self._under_way()
            await self._see_backends_gone(pending, off)
            if late:
                await self._see_late_ones_gone(off, set(late))
            await self._drop([name for name in off if self._logins[name].failed is None])
            pending = [name for name in pending if name not in off]
            if not pending:
                break
        remains = await self._helpers.rows(
            "SELECT *, clock_timestamp() AS verified_at FROM gk.remains(%s)", list(self._logins)
        )
        proofs = {row["username"]: row for row in remains}
        return tuple(_answer(name, login, proofs[name]) for name, login in self._logins.items())

    async def _switch_off(self, names: Collection[RoleName]) -> Collection[RoleName]:
        """Take the right to log in from them; return those that have it no more."""
        rows = await self._helpers.patiently("SELECT * FROM gk.disable_logins(%s)", list(names))
        for row in rows:
            login = self._logins[row["username"]]
            login.existed = row["existed"]
            login.failed = row["failed"] and Failure.of(error_of(row["failed"]))
        return [row["username"] for row in rows if not row["failed"]]

    async def _see_backends_gone(
        self, names: Collection[RoleName], off: Collection[RoleName]
    ) -> None:
        """End backends, until none is seen of the logins that are off.

        That they are is committed, so no new one can come but a log-in that was already
        under way.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BACKENDS_SECONDS
        left, pauses = await self._look(names), _pauses()
        while (left := [name for name in left if name in off]) and loop.time() < deadline:
            await asyncio.sleep(next(pauses))
            left = await self._look(left)

    async def _see_late_ones_gone(self, off: Collection[RoleName], late: set[str]) -> None:
        """End also who was let in just before the login was off, and is seen only now.

        PostgreSQL checks a log-in, then locks its database, and only then shows it. Whoever
        holds that lock (DROP DATABASE does, for seconds) would have us prove too early.
        """
        loop = asyncio.get_running_loop()
        began, pauses = loop.time(), _pauses()
        while late:
            if loop.time() > began + BACKENDS_SECONDS:
                for name in off:
                    self._logins[name].failed = Failure.of(error_of(LOCKED))
                return
            await asyncio.sleep(next(pauses))
            now = await self._under_way()
            passing = loop.time() < began + PASSED_SECONDS
            late = {who for who in late & now.keys() if now[who] or passing}
        await self._see_backends_gone(off, off)

    async def _under_way(self) -> Mapping[str, bool]:
        """Return the log-ins of anybody that are not in yet, and whether each waits for a lock."""
        rows = await self._helpers.rows("SELECT * FROM gk.log_ins_under_way()")
        return {row["who"]: row["waits"] for row in rows}

    async def _look(self, names: Collection[RoleName]) -> Collection[RoleName]:
        """Tell the backends of these logins to go; return the logins that had any."""
        rows = await self._helpers.rows("SELECT * FROM gk.end_backends(%s)", list(names))
        for row in rows:
            login = self._logins[row["username"]]
            login.backends = max(login.backends, row["backends"])
            if not row["backends"] and login.failed is None:
                login.cut_at = row["target_now"]
        return [row["username"] for row in rows if row["backends"]]

    async def _drop(self, names: Collection[RoleName]) -> None:
        """Drop them; those that own something once it was handled.

        One that cannot be dropped, for what it owns or for a backend that does not end,
        loses its memberships.
        """
        rows = await self._helpers.patiently("SELECT * FROM gk.drop_logins(%s)", list(names))
        owners = [row["username"] for row in rows if _owns(row["remains"])]
        for name in owners:
            try:
                self._logins[name].owned = await self._release_objects(name)
            except GatekeeperError as error:
                self._logins[name].failed = Failure.of(error)
        held = [row["username"] for row in rows if row["remains"]]
        if held:
            await self._helpers.patiently("SELECT * FROM gk.drop_logins(%s)", held)

    async def _release_objects(self, username: RoleName) -> tuple[OwnedObjects, ...]:
        """Handle what a login owns, in every database where the catalogue names something."""
        databases = await self._helpers.rows("SELECT gk.databases_of(%s) AS name", username)
        shard = (await self._helpers.row("SELECT gk.shard_of(%s) AS shard", username))["shard"]
        helper = sql.Identifier("gk", f"release_owned_{shard:02}")
        query = sql.SQL("SELECT {}(%s, %s)").format(helper)
        released = []
        for database in (row["name"] for row in databases):
            objects = await self._release_in(database, query, username)
            released.append(OwnedObjects(database=database, objects=objects))
        return tuple(found for found in released if found.objects)

    async def _release_in(
        self, database: str, query: sql.Composed, username: RoleName
    ) -> tuple[str, ...]:
        """Handle a portion after the other; return what there was before the first."""
        policy = self._objects.value
        owned = left = await self._helpers.value_in(database, query, username, policy)
        portions = 0 if self._objects is ObjectPolicy.QUARANTINE else MOST_PORTIONS
        for _ in range(portions):
            if not left:
                break
            left = await self._helpers.value_in(database, query, username, policy)
        return tuple(owned or ())


def _pauses() -> Iterator[float]:
    pause = POLL_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.5, SLOWEST_POLL_SECONDS)


def _owns(remains: Sequence[str]) -> bool:
    return "backends" not in remains and any(what.startswith("objects in ") for what in remains)


def _answer(username: RoleName, login: _Login, proof: Row) -> UserRevoked | Failure:
    if login.failed is not None:
        return _with_what_is_left(login.failed, proof["remains"])
    return UserRevoked(
        username=username,
        existed=login.existed,
        gone=not proof["remains"],
        backends_ended=login.backends,
        access_cut_at=login.cut_at or proof["verified_at"],
        verified_at=proof["verified_at"],
        owned=login.owned,
        left=tuple(proof["remains"]),
    )


def _with_what_is_left(failure: Failure, remains: Sequence[str]) -> Failure:
    return replace(failure, message=f"{failure.message}; still there: {'; '.join(remains)}")
