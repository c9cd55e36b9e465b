"""LISTEN: hears NOTIFY on one connection of its own, and comes back after a failure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psycopg
import structlog
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatekeeper.kernel.secret import Secret

log = structlog.get_logger("gatekeeper.postgres")

RECONNECT_SECONDS: Final = 0.5


class Listener:
    """Calls back for each notification, and with None when some may have been missed."""

    def __init__(
        self, dsn: Secret, channel: str, heard: Callable[[str | None], None], *, name: str
    ) -> None:
        self._dsn = dsn
        self._channel = channel
        self._heard = heard
        self._name = name

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                log.warning("listening again", channel=self._channel, error=type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._dsn.reveal(), autocommit=True, application_name=self._name
        ) as connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._heard(None)
            async for notify in connection.notifies():
                self._heard(notify.payload)
