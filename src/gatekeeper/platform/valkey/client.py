"""Values that several processes share, on a server that may be slow, full or gone.

Nothing here raises. A server that does not answer is left alone for a pause and then tried by one
caller, so an outage costs all the others nothing: they get None at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as SlowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatekeeper.kernel.secret import Secret

log = structlog.get_logger("gatekeeper.valkey")

PAUSE_SECONDS: Final = 1.0
"""How long a server that did not answer is left alone."""
COMPLAINT_SECONDS: Final = 60.0
"""A server that answers and refuses (full, read only, no permission) is logged this often."""
MAX_VALUE_BYTES: Final = 1_048_576
MAX_CONNECTIONS: Final = 64
"""Of one process; whoever comes beyond waits for one, within its timeout."""


class ValkeyCache:
    """Gets and puts bytes under keys.

    A value is stored behind its key, and one that stands behind another is not taken: a
    connection that got out of step with its answers (as in CVE-2023-28858) must not hand one
    caller what belongs to another.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        timeout: float,
        db: int = 0,
        username: str | None = None,
        password: Secret | None = None,
        tls: bool = False,
        ca_file: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout` is in seconds, for all of a get or a put."""
        self._redis = redis.Redis(
            host=host,
            port=port,
            db=db,
            username=username,
            password=None if password is None else password.reveal(),
            ssl=tls,
            ssl_ca_certs=ca_file,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            max_connections=MAX_CONNECTIONS,
            # It would name itself by two commands more on each new connection.
            driver_info=None,
        )
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._address = f"{host}:{port}"
        self._timeout = timeout
        self._now = now
        self._retry_at = float("-inf")
        self._complain_at = float("-inf")
        self.available = True
        """Whether the server answered when it was last asked."""
        self.failures = 0
        """How often it was asked and did not do it."""

    async def get(self, key: bytes) -> bytes | None:
        """Return a value; None: not there, or not to be had."""
        found = await self._asked(lambda: self._redis.get(key))
        if not isinstance(found, bytes) or not found.startswith(key):
            return None
        return found[len(key) :]

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        """Keep a value for so long, if it is not too large."""
        milliseconds = int(seconds * 1_000)
        if milliseconds > 0 and len(value) <= MAX_VALUE_BYTES:
            await self._asked(lambda: self._redis.set(key, key + value, px=milliseconds))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _asked(self, ask: Callable[[], Awaitable[object]]) -> object | None:
        if not self.available and not self._may_try():
            return None
        try:
            async with asyncio.timeout(self._timeout), self._free:
                found = await ask()
        except (LostError, SlowError, TimeoutError, OSError) as error:
            self._lost(error)
            return None
        except RedisError as error:
            self._refused(error)
            return None
        if not self.available:
            self.available = True
            log.info("valkey answers again", address=self._address)
        return found

    def _may_try(self) -> bool:
        """Let one caller try after each pause."""
        if self._now() < self._retry_at:
            return False
        self._retry_at = self._now() + PAUSE_SECONDS
        return True

    def _lost(self, error: Exception) -> None:
        self.failures += 1
        self._retry_at = self._now() + PAUSE_SECONDS
        if self.available:
            self.available = False
            # The text of an error may quote what was sent; its kind does not.
            log.warning("valkey lost", address=self._address, error=type(error).__name__)

    def _refused(self, error: RedisError) -> None:
        self.failures += 1
        if self._now() >= self._complain_at:
            self._complain_at = self._now() + COMPLAINT_SECONDS
            code = str(error).partition(" ")[0]
            log.warning(
                "valkey refuses", address=self._address, error=type(error).__name__, code=code[:32]
            )
