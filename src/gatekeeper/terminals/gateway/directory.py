"""Where terminals are: looked up in the store, and remembered for a few seconds.

What is remembered is only a hint where to connect: the claim asks the store again. So it may
be stale without harm, and what speaks against a client is never remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatekeeper.platform.postgres.pool import Pool

FRESH_SECONDS: Final = 5.0
MAX_REMEMBERED: Final = 10_000

# The ids as one text: psycopg would make an array of thousands one by one.
_PLACE: Final = """
SELECT instance, address, status FROM gatekeeper.terminal_places(ARRAY[%s::text])
"""
_ENDED: Final = """
SELECT asked.id, coalesce(place.ending, place.status, '')
FROM unnest(string_to_array(%(ids)s, ',')) AS asked (id)
LEFT JOIN gatekeeper.terminal_places(string_to_array(%(ids)s, ',')) AS place ON place.id = asked.id
WHERE place.status IS DISTINCT FROM 'ready'
"""


class Place(NamedTuple):
    """Where a terminal is. `address` is `unix:/path` or `tcp:host:port`, once there is one."""

    instance: str
    address: str | None
    status: str


class Directory:
    """`now` gives seconds that only go forward."""

    def __init__(self, pool: Pool, *, now: Callable[[], float]) -> None:
        self._pool = pool
        self._now = now
        self._ready: dict[str, tuple[float, Place]] = {}

    async def find(self, terminal: str) -> Place | None:
        """Return a terminal's place. Raises `UnavailableError` when the store does not answer."""
        remembered = self._ready.get(terminal)
        if remembered is not None and self._now() - remembered[0] < FRESH_SECONDS:
            return remembered[1]
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_PLACE, (terminal,))).fetchone()
        place = None if row is None else Place(*row)
        if place is not None and place.status == "ready":
            if len(self._ready) >= MAX_REMEMBERED:
                self._ready.clear()
            self._ready[terminal] = (self._now(), place)
        else:
            self.forget(terminal)
        return place

    def forget(self, terminal: str) -> None:
        self._ready.pop(terminal, None)

    async def ended(self, terminals: Sequence[str]) -> Sequence[tuple[str, str]]:
        """Return those that are not ready any more, each with why.

        That is its ending, which stays when it is cleaned; before one is known its status; ''
        for an unknown.
        """
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_ENDED, {"ids": ",".join(terminals)})
            return [(str(terminal), str(why)) for terminal, why in await cursor.fetchall()]
