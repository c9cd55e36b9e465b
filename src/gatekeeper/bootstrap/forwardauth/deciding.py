"""What decides, on the adapters that a configuration names."""

from __future__ import annotations

import itertools
import secrets
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from gatekeeper.forwardauth.adapters.backends import HttpBackends
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.plan import PROCESS_KEY
from gatekeeper.forwardauth.service import Decider, Outside
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.outbound.client import OutboundClient
from gatekeeper.platform.outbound.guard import AddressGuard
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from gatekeeper.forwardauth.agents.server import Generation
    from gatekeeper.forwardauth.config import Server
    from gatekeeper.forwardauth.config.loaded import Loaded
    from gatekeeper.forwardauth.ports import Backends, Observer, Sessions, SharedCache, Tokens


def make_decider(
    loaded: Loaded,
    generation: Generation,
    *,
    closing: AsyncExitStack,
    around: Callable[[Backends], Backends] | None = None,
    shares: bool = True,
    observer: Observer,
    clock: Callable[[], float],
) -> Decider:
    """Wire what decides; `closing` ends its connections.

    `around` wraps the backends. What does not share leaves a shared cache alone.
    """
    settings = loaded.configuration.server
    client = OutboundClient(
        guard=AddressGuard(settings.backend.denied_networks),
        max_connections=settings.backend.max_connections,
    )
    closing.push_async_callback(client.close)
    backends = _backends(settings, client)
    return Decider(
        generation,
        Outside(
            backends=backends if around is None else around(backends),
            tokens=_tokens(settings),
            sessions=_sessions(settings, client),
            shared=_shared(settings, closing) if shares else None,
            seal=_seal(loaded),
            clock=clock,
            new_id=request_ids(),
        ),
        observer=observer,
        memory=Memory(settings.cache.max_entries),
        correlation_header=settings.logging.correlation_header,
    )


def _backends(settings: Server, client: OutboundClient) -> Backends:
    return HttpBackends(
        client=client,
        max_response_bytes=settings.backend.max_response_bytes,
        clock=SystemClock(),
        random=SystemRandom(),
    )


# Each of these brings libraries that are large beside a worker: only where they are used.


def _tokens(settings: Server) -> Tokens | None:
    if not settings.issuers:
        return None
    from gatekeeper.forwardauth.adapters.tokens import VerifiedTokens  # noqa: PLC0415  # as above

    return VerifiedTokens(settings.issuers, clock=SystemClock())


def _sessions(settings: Server, client: OutboundClient) -> Sessions | None:
    if settings.sessions is None:
        return None
    from gatekeeper.forwardauth.adapters.sessions import (  # noqa: PLC0415  # as above
        GatekeeperSessions,
    )

    return GatekeeperSessions(settings.sessions.server, client=client, clock=SystemClock())


def _shared(settings: Server, closing: AsyncExitStack) -> SharedCache | None:
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
