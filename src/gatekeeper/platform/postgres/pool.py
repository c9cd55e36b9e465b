"""A pool of connections that heals by itself, with driver errors translated once."""

from __future__ import annotations

import select
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from gatekeeper.kernel.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from gatekeeper.kernel.secret import Secret

CONNECT_SECONDS: Final = 5
WAIT_SECONDS: Final = 10.0
"""How long a caller waits for a connection before it is told to come back."""
RECONNECT_SECONDS: Final = 2.0
"""For so long a pool tries again by itself, with pauses that grow; then whoever asks next makes
it begin anew. Without that end it would be away for as long again as its database was.
"""
KEEPALIVE_IDLE_SECONDS: Final = 10
KEEPALIVE_INTERVAL_SECONDS: Final = 5
KEEPALIVE_COUNT: Final = 3
UNANSWERED_MILLISECONDS: Final = 30_000
"""How long sent data may stay unacknowledged before the connection counts as dead."""
NETWORK: Final[Mapping[str, int]] = MappingProxyType(
    {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": KEEPALIVE_IDLE_SECONDS,
        "keepalives_interval": KEEPALIVE_INTERVAL_SECONDS,
        "keepalives_count": KEEPALIVE_COUNT,
        "tcp_user_timeout": UNANSWERED_MILLISECONDS,
    }
)
"""How every connection that is kept notices a network that went away (libpq's names)."""


async def check_when_heard(connection: psycopg.AsyncConnection) -> None:
    """Try a connection before it is lent, but only if its socket has something to say.

    A server that ended an idle connection has told so, or closed it, and keepalives do the
    same for a network that went away: silence means that all is well, at no round trip.
    """
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    if socket.poll(0):
        await AsyncConnectionPool.check_connection(connection)


class Pool:
    """Connections to one database, in autocommit; transactions are asked for.

    A connection that was ended is found before it is lent, so a restarted database heals itself.
    Raises `InputError` for a connection string that cannot be read.
    """

    def __init__(
        self,
        dsn: Secret,
        *,
        name: str,
        min_size: int = 1,
        max_size: int = 16,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._pool = AsyncConnectionPool(
            readable(dsn),
            min_size=min_size,
            max_size=max_size,
            timeout=wait_seconds,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
            name=name,
            check=check_when_heard,
            kwargs={
                "autocommit": True,
                "application_name": name,
                **NETWORK,
            },
        )

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """Lend a connection.

        Raises `UnavailableError` when the database does not answer, and lets every
        other error of a statement through.
        """
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, PoolTimeout) as error:
            msg = f"the database does not answer ({type(error).__name__})"
            raise UnavailableError(msg) from error


def readable(dsn: Secret) -> str:
    """Return the connection string; libpq quotes an unreadable one, so its words are dropped."""
    try:
        conninfo_to_dict(dsn.reveal())
    except psycopg.ProgrammingError:
        msg = "dsn: expected a PostgreSQL connection string or URL"
        raise InputError(msg) from None
    return dsn.reveal()
