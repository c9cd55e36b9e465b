"""The store's clock, which every control plane goes by: a machine's own may be wrong."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.errors import GatekeeperError

if TYPE_CHECKING:
    from datetime import datetime

    from gatekeeper.platform.postgres.pool import Pool

log = structlog.get_logger("gatekeeper.postgres")

READ_SECONDS: Final = 10.0
"""How often it is read anew; in between, this machine's monotonic clock counts on."""


class StoreClock:
    """A clock that is read over the network, and is right to half a round trip."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._read: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        if self._read is None:
            msg = "the store's clock was not read yet"
            raise RuntimeError(msg)
        at, counted = self._read
        return at + timedelta(seconds=time.monotonic() - counted)

    async def read(self) -> None:
        """Ask the store; raises `UnavailableError`, and then goes on as before."""
        async with self._pool.connection() as connection:
            asked = time.monotonic()
            cursor = await connection.execute("SELECT clock_timestamp()")
            row = await cursor.fetchone()
            answered = time.monotonic()
        assert row is not None  # noqa: S101  # a SELECT without FROM
        self._read = row[0], (asked + answered) / 2

    async def run(self) -> None:
        """Read it again and again, until cancelled."""
        while True:
            await asyncio.sleep(READ_SECONDS)
            try:
                await self.read()
            except GatekeeperError as error:
                log.warning("the store's clock is not read", code=error.code)
