"""What decides, on the adapters that a configuration names."""

from __future__ import annotations

import itertools
import secrets
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.plan import PROCESS_KEY
from gatekeeper.forwardauth.service import Decider, Outside
from gatekeeper.platform.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from gatekeeper.bootstrap.forwardauth.outbound import Outbound
    from gatekeeper.forwardauth.agents.server import Generation
    from gatekeeper.forwardauth.config import Server
    from gatekeeper.forwardauth.config.loaded import Loaded
    from gatekeeper.forwardauth.ports import Backends, Observer, Sessions, SharedCache, Tokens


def make_decider(
    loaded: Loaded,
    generation: Generation,
    *,
    outbound: Outbound,
    backends: Backends,
    shared: SharedCache | None = None,
    observer: Observer,
    clock: Callable[[], float],
) -> Decider:
    """Wire what decides. `backends` are `outbound`, perhaps with something around it."""
    settings = loaded.configuration.server
    outbound.prepare(loaded)
    return Decider(
        generation,
        Outside(
            backends=backends,
            tokens=_tokens(settings),
            sessions=_sessions(settings, outbound),
            shared=shared,
            seal=_seal(loaded),
            clock=clock,
            new_id=request_ids(),
        ),
        observer=observer,
        memory=Memory(settings.cache.max_entries),
        correlation_header=settings.logging.correlation_header,
    )


# Each of these brings libraries that are large beside a worker: only where they are used.


def _tokens(settings: Server) -> Tokens | None:
    if not settings.issuers:
        return None
    from gatekeeper.forwardauth.adapters.tokens import VerifiedTokens  # noqa: PLC0415  # as above

    return VerifiedTokens(settings.issuers, clock=SystemClock())


def _sessions(settings: Server, outbound: Outbound) -> Sessions | None:
    if settings.sessions is None:
        return None
    from gatekeeper.forwardauth.adapters.sessions import (  # noqa: PLC0415  # as above
        GatekeeperSessions,
    )

    return GatekeeperSessions(settings.sessions.server, client=outbound.client, clock=SystemClock())


def make_shared_cache(settings: Server, closing: AsyncExitStack) -> SharedCache | None:
    """Make the cache that a configuration names; `closing` ends its connections."""
    if settings.cache.valkey is None or settings.cache.backend == "memory":
        return None
    from gatekeeper.forwardauth.adapters.shared_cache import shared_cache  # noqa: PLC0415  # as above

    cache = shared_cache(settings.cache.valkey)
    closing.push_async_callback(cache.close)
    return cache


def _seal(loaded: Loaded) -> bytes:
    """Derive the secret that seals entries of the shared cache: only who has the salt knows it."""
    salt = loaded.configuration.server.cache.key_salt
    secret = PROCESS_KEY if salt is None else salt.reveal().encode()
    return blake2b(b"seal", key=blake2b(secret).digest()[:32]).digest()


def steady_clock() -> Callable[[], float]:
    """Make a clock of Unix time that never goes back while the process lives."""
    began = SystemClock().now().timestamp() - time.monotonic()
    return lambda: began + time.monotonic()


def request_ids() -> Callable[[], str]:
    """Make correlation ids: the process's own random part, and a number."""
    prefix, numbers = secrets.token_hex(8), itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):x}"
