"""The end of logins, proven: off, backends gone, objects handled, dropped, read again.

Many logins go through each step together: a target is asked once a step, not once a
login, so that a thousand that end in one second are cut within it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from gatekeeper.databases.adapters.postgresql.translate import error_of
from gatekeeper.databases.model import Failure, ObjectPolicy, OwnedObjects, UserRevoked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from gatekeeper.databases.adapters.postgresql.helpers import Helpers
    from gatekeeper.kernel.ids import RoleName

BACKENDS_SECONDS: Final = 10.0
"""How long to wait for told backends to be gone before the job is tried again."""
POLL_SECONDS: Final = 0.003
SLOWEST_POLL_SECONDS: Final = 0.05
PASSED_SECONDS: Final = 1.0
"""A log-in that waits for nothing is seen this soon after it was let in. One that takes longer
has still to prove who it is (a minute, if it likes), and will be refused: it holds up nobody."""
LOCKED: Final = "55P03"
DISABLE_TRIES: Final = 3

Row = dict[str, Any]


@dataclass(slots=True)
class _Login:
    """What is known of one login on its way out."""

    existed: bool = False
    failed: str | None = None
    """The SQLSTATE that kept it from being switched off, or seen gone."""
    backends: int = 0
    cut_at: datetime | None = None
    owned: tuple[OwnedObjects, ...] = ()

    def is_cut(self) -> bool:
        return self.failed is None and self.cut_at is not None


class Revocation:
    """One batch of logins. Safe to repeat at any time, also side by side with another."""

    def __init__(
        self, helpers: Helpers, usernames: Sequence[RoleName], objects: ObjectPolicy
    ) -> None:
        self._helpers = helpers
        self._objects = objects
        self._logins = {name: _Login() for name in usernames}

    async def run(self) -> tuple[UserRevoked | Failure, ...]:
        """End them all; answer in the order asked, with a proof or why there is none."""
        await self._switch_off()
        late = await self._under_way()
        off = [name for name, login in self._logins.items() if login.failed is None]
        await self._see_backends_gone(off)
        if late:
            await self._see_late_ones_gone(off, set(late))
        await self._drop([name for name in off if self._logins[name].is_cut()])
        remains = await self._helpers.rows(
            "SELECT *, clock_timestamp() AS verified_at FROM gk.remains(%s)", list(self._logins)
        )
        proofs = {row["username"]: row for row in remains}
        return tuple(_answer(name, login, proofs[name]) for name, login in self._logins.items())

    async def _switch_off(self) -> None:
        """Take the right to log in from all of them.

        A holder can keep his own role locked in an open transaction: that goes with his
        backends, which end also where the role could not be changed yet.
        """
        pending: Collection[RoleName] = list(self._logins)
        for _ in range(DISABLE_TRIES):
            rows = await self._helpers.patiently(
                "SELECT * FROM gk.disable_logins(%s)", list(pending)
            )
            for row in rows:
                login = self._logins[row["username"]]
                login.existed, login.failed = row["existed"], row["failed"]
            pending = [row["username"] for row in rows if row["failed"] is not None]
            if not pending:
                return
            await self._look(pending)

    async def _see_backends_gone(self, names: Collection[RoleName]) -> None:
        """End backends until none is seen.

        The logins are off and that is committed, so no new one can come but a log-in that
        was already under way.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BACKENDS_SECONDS
        left, pauses = names, _pauses()
        while left:
            left = await self._look(left)
            if not left or loop.time() > deadline:
                return
            await asyncio.sleep(next(pauses))

    async def _see_late_ones_gone(self, names: Collection[RoleName], late: set[str]) -> None:
        """End also who was let in just before the login was off, and is seen only now.

        PostgreSQL checks a log-in, then locks its database, and only then shows it. Whoever
        holds that lock (DROP DATABASE does, for seconds) would have us prove too early.
        """
        loop = asyncio.get_running_loop()
        began, pauses = loop.time(), _pauses()
        while late:
            if loop.time() > began + BACKENDS_SECONDS:
                for name in names:
                    self._logins[name].failed = LOCKED
                return
            await asyncio.sleep(next(pauses))
            now = await self._under_way()
            passing = loop.time() < began + PASSED_SECONDS
            late = {who for who in late & now.keys() if now[who] or passing}
        await self._see_backends_gone(names)

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
        """Drop them; those that own something once it was handled."""
        rows = await self._helpers.patiently("SELECT * FROM gk.drop_logins(%s)", list(names))
        owners = [row["username"] for row in rows if _owns(row["remains"])]
        for name in owners:
            self._logins[name].owned = await self._release_objects(name)
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
            objects = await self._helpers.value_in(database, query, username, self._objects.value)
            released.append(OwnedObjects(database=database, objects=tuple(objects or ())))
        return tuple(found for found in released if found.objects)


def _pauses() -> Iterator[float]:
    pause = POLL_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.5, SLOWEST_POLL_SECONDS)


def _owns(remains: Sequence[str]) -> bool:
    return any(what.startswith("objects in ") for what in remains)


def _answer(username: RoleName, login: _Login, proof: Row) -> UserRevoked | Failure:
    if login.failed is not None:
        return Failure.of(error_of(login.failed))
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
