"""The decision service of forward auth, wired. It needs no database."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.bootstrap.configuration import first_generation, next_generation
from gatekeeper.bootstrap.outbound import Outbound
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.observing import Observer
from gatekeeper.forwardauth.adapters.tables import read_tables
from gatekeeper.forwardauth.adapters.watching import ConfigurationWatcher
from gatekeeper.forwardauth.agents.memory import Memory
from gatekeeper.forwardauth.errors import ConfigurationError
from gatekeeper.forwardauth.plan import PROCESS_KEY
from gatekeeper.forwardauth.service import Decider, Outside
from gatekeeper.forwardauth.shadow import Careful, Remembered
from gatekeeper.forwardauth.web.answering import Worker
from gatekeeper.forwardauth.web.shadowing import LastDecided, Shadowing
from gatekeeper.forwardauth.web.workers import Application, serve
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.telemetry.lines import LineWriter
from gatekeeper.platform.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from gatekeeper.forwardauth import ports
    from gatekeeper.forwardauth.agents.server import Generation
    from gatekeeper.forwardauth.config import Server
    from gatekeeper.forwardauth.config.loaded import Loaded
    from gatekeeper.forwardauth.errors import Problem
    from gatekeeper.forwardauth.ports import Backends, Sessions, SharedCache, Tokens

log = structlog.get_logger("gatekeeper.forwardauth.shadow")

CANDIDATE_SECONDS: Final = 5.0
"""Between two attempts to load a candidate that cannot be."""


def serve_forwardauth(path: Path, environ: Mapping[str, str]) -> int:
    """Serve decisions until told to stop. Raises `ConfigurationError`, or `OSError` for a port."""
    server = load(path, environ=environ).configuration.server
    configure_logs(server.logging.level.upper(), service="passctrl")
    read_tables(path, server)
    return serve(
        partial(application, path, dict(environ)),
        listen=server.listen,
        workers=server.workers,
        operations=server.operations,
        grpc=server.grpc,
    )


@asynccontextmanager
async def application(path: Path, environ: Mapping[str, str]) -> AsyncIterator[Application]:
    """Wire what one worker runs, on its loop."""
    loaded = load(path, environ=environ)
    configure_logs(loaded.configuration.server.logging.level.upper(), service="passctrl")
    settings = loaded.configuration.server
    clock = steady_clock()
    lines = LineWriter(sys.stderr) if settings.logging.decisions else None
    observer = Observer(clock=clock, lines=lines)
    observed = observer if settings.shadow is None else LastDecided(observer)
    outbound = Outbound(settings)
    outbound.prepare(loaded)
    decider = _decider(
        loaded,
        first_generation(path, loaded),
        outbound=outbound,
        backends=outbound if settings.shadow is None else Remembered(outbound),
        shared=_shared(settings),
        observer=observed,
        clock=clock,
    )
    observer.watch(decider)
    watcher = ConfigurationWatcher(
        path,
        environ=environ,
        running=loaded,
        taken=partial(_take, path, decider, observer, outbound),
        rejected=observer.rejected,
    )
    async with AsyncExitStack() as stack:
        if lines is not None:
            stack.callback(lines.flush)
        stack.push_async_callback(outbound.close)
        if settings.shadow is None or not isinstance(observed, LastDecided):
            await stack.enter_async_context(_grpc(settings, decider))
            yield Application(decider.decide, watcher.run, Worker(decider, observer, clock))
            return
        shadowing = Shadowing(decider, observed, clock=clock)
        stack.push_async_callback(shadowing.close)
        await stack.enter_async_context(_grpc(settings, shadowing))
        candidate = partial(
            follow, path.parent / settings.shadow.config, environ, shadowing, clock=clock
        )
        worker = Worker(decider, observer, clock, shadowing)
        yield Application(shadowing.decide, partial(_both, watcher.run, candidate), worker)


def _decider(
    loaded: Loaded,
    generation: Generation,
    *,
    outbound: Outbound,
    backends: Backends,
    shared: SharedCache | None,
    observer: ports.Observer,
    clock: Callable[[], float],
) -> Decider:
    settings = loaded.configuration.server
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


# The candidate of shadow mode: whatever is wrong with it, the active configuration goes on.


async def _both(*works: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(work() for work in works))


async def follow(
    path: Path, environ: Mapping[str, str], shadowing: Shadowing, *, clock: Callable[[], float]
) -> None:
    """Let a candidate follow, as soon as it can be loaded, until cancelled."""
    told: tuple[str, ...] = ()
    while True:
        try:
            await _follow(path, environ, shadowing, clock=clock)
        except ConfigurationError as error:
            problems = tuple(map(str, error.problems))
            if problems != told:
                log.warning("the candidate cannot be loaded", problems=problems)
            told = problems
        except Exception as error:  # noqa: BLE001  # of it the type alone
            log.error("the candidate failed", error=type(error).__name__)  # noqa: TRY400
        await asyncio.sleep(CANDIDATE_SECONDS)


async def _follow(
    path: Path, environ: Mapping[str, str], shadowing: Shadowing, *, clock: Callable[[], float]
) -> None:
    loaded = await asyncio.to_thread(load, path, environ=environ)
    generation = await asyncio.to_thread(first_generation, path, loaded)
    outbound, observed = Outbound(loaded.configuration.server), LastDecided()
    outbound.prepare(loaded)
    decider = _decider(
        loaded,
        generation,
        outbound=outbound,
        backends=Careful(outbound),
        shared=None,
        observer=observed,
        clock=clock,
    )

    async def take(changed: Loaded) -> None:
        number = decider.generation.number + 1
        decider.replace(await asyncio.to_thread(next_generation, path, changed, number))

    async def rejected(_problems: tuple[Problem, ...]) -> None:
        """Say nothing more: the watcher has."""

    watcher = ConfigurationWatcher(
        path, environ=environ, running=loaded, taken=take, rejected=rejected
    )
    shadowing.take(decider, observed)
    try:
        await watcher.run()
    finally:
        shadowing.leave()
        await outbound.close()


async def _take(
    path: Path, decider: Decider, observer: Observer, outbound: Outbound, loaded: Loaded
) -> None:
    """Put a configuration in force, as a whole or not at all."""
    # In another thread: decisions go on meanwhile.
    await asyncio.to_thread(outbound.prepare, loaded)
    generation = await asyncio.to_thread(
        next_generation, path, loaded, decider.generation.number + 1
    )
    decider.replace(generation)
    observer.taken(generation)


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


def _shared(settings: Server) -> SharedCache | None:
    if settings.cache.valkey is None or settings.cache.backend == "memory":
        return None
    from gatekeeper.forwardauth.adapters.shared_cache import shared_cache  # noqa: PLC0415  # as above

    return shared_cache(settings.cache.valkey)


def _grpc(settings: Server, decider: Decider | Shadowing) -> AbstractAsyncContextManager[object]:
    if settings.grpc is None:
        return nullcontext()
    from gatekeeper.forwardauth.web.ext_authz import serve_ext_authz  # noqa: PLC0415  # as above

    return serve_ext_authz(
        decider.decide_about,
        address=settings.grpc.address,
        port=settings.grpc.port,
        shared=settings.workers > 1,
    )


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
