"""The decision service: what each worker runs."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from gatekeeper.bootstrap.forwardauth.candidate import follow
from gatekeeper.bootstrap.forwardauth.configuration import first_generation, next_generation
from gatekeeper.bootstrap.forwardauth.deciding import (
    make_decider,
    make_shared_cache,
    steady_clock,
)
from gatekeeper.bootstrap.forwardauth.outbound import Outbound
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.observing import Observer
from gatekeeper.forwardauth.adapters.tables import read_tables
from gatekeeper.forwardauth.adapters.watching import ConfigurationWatcher
from gatekeeper.forwardauth.shadow import Remembered
from gatekeeper.forwardauth.web.answering import Worker
from gatekeeper.forwardauth.web.shadowing import LastDecided, Shadowing
from gatekeeper.forwardauth.web.worker import Application
from gatekeeper.forwardauth.web.workers import serve
from gatekeeper.platform.telemetry.lines import LineWriter
from gatekeeper.platform.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from gatekeeper.forwardauth.config import Server
    from gatekeeper.forwardauth.config.loaded import Loaded
    from gatekeeper.forwardauth.service import Decider


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
    settings = loaded.configuration.server
    configure_logs(settings.logging.level.upper(), service="passctrl")
    clock, shadow = steady_clock(), settings.shadow
    async with AsyncExitStack() as stack:
        lines = LineWriter(sys.stderr) if settings.logging.decisions else None
        if lines is not None:
            stack.callback(lines.flush)
        observer = Observer(clock=clock, lines=lines)
        followed = None if shadow is None else LastDecided(observer)
        outbound = Outbound(settings)
        stack.push_async_callback(outbound.close)
        decider = make_decider(
            loaded,
            first_generation(path, loaded),
            outbound=outbound,
            backends=outbound if shadow is None else Remembered(outbound),
            shared=make_shared_cache(settings, stack),
            observer=followed or observer,
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
        if shadow is None or followed is None:
            await stack.enter_async_context(_grpc(settings, decider))
            yield Application(decider.decide, watcher.run, Worker(decider, observer, clock))
            return
        shadowing = Shadowing(decider, followed, clock=clock)
        stack.push_async_callback(shadowing.close)
        await stack.enter_async_context(_grpc(settings, shadowing))
        candidate = partial(follow, path.parent / shadow.config, environ, shadowing, clock=clock)
        yield Application(
            shadowing.decide,
            partial(_both, watcher.run, candidate),
            Worker(decider, observer, clock, shadowing),
        )


async def _both(*works: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(work() for work in works))


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


def _grpc(settings: Server, decider: Decider | Shadowing) -> AbstractAsyncContextManager[object]:
    if settings.grpc is None:
        return nullcontext()
    # It brings a large library: only where it is used.
    from gatekeeper.forwardauth.web.ext_authz import serve_ext_authz  # noqa: PLC0415  # as above

    return serve_ext_authz(
        decider.decide_about,
        address=settings.grpc.address,
        port=settings.grpc.port,
        shared=settings.workers > 1,
    )
