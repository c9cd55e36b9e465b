"""One process that answers at the decision port."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import uvicorn
import uvloop

from gatekeeper.forwardauth.web.port import Decide, decision_protocol
from gatekeeper.platform.processes.asking import Ask
from gatekeeper.platform.processes.listening import BACKLOG
from gatekeeper.platform.processes.supervising import STOPPING, run
from gatekeeper.platform.tasks import run_together

if TYPE_CHECKING:
    import socket

    from gatekeeper.forwardauth.web.limits import Limits

DRAIN_SECONDS: Final = 5
"""For answers under way when a worker is told to stop."""
_SWITCH_SECONDS: Final = 0.0002
"""How long a thread that reads a configuration may keep decisions waiting; 5 ms by default."""


class Application(NamedTuple):
    """What a worker runs. `background` runs beside, and a worker whose background ends, ends."""

    decide: Decide
    background: Callable[[], Awaitable[None]] | None = None
    operated: Ask | None = None
    """Answers what the operations listener is asked."""


Build = Callable[[], AbstractAsyncContextManager[Application]]
"""Makes what a worker runs, in its process and its event loop. Must be picklable (a function
of a module, or a `partial` of one) where there are several workers."""

Operate = Callable[[Ask], Awaitable[None]]
"""Lets a worker be asked, for as long as it runs."""


def work(
    build: Build, listening: socket.socket, limits: Limits | None, operate: Operate | None
) -> int:
    """Be a worker until told to stop; return the exit status."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    for number in STOPPING:
        # uvicorn takes these while it serves, and sends them again when it has stopped in order.
        signal.signal(number, _stopped)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve_one(build, listening, limits, operate))


def _stopped(_number: int, _frame: object) -> None:
    pass


async def serve_one(
    build: Build, listening: socket.socket, limits: Limits | None, operate: Operate | None
) -> int:
    """Serve on the loop that runs."""
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(build())
        _tidy()
        server = uvicorn.Server(
            uvicorn.Config(
                _no_application,
                http=decision_protocol(application.decide, limits=limits),
                interface="asgi3",
                ws="none",
                lifespan="off",
                backlog=BACKLOG,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        failures: list[str] = []

        def failed(name: str) -> None:
            failures.append(name)
            server.should_exit = True

        tasks = {}
        if application.background is not None:
            tasks["background"] = run(application.background)
        if operate is not None and application.operated is not None:
            tasks["operations"] = run(partial(operate, application.operated))
        await stack.enter_async_context(run_together(tasks, failed=failed))
        await server.serve(sockets=[listening])
        return 1 if failures else 0


def _tidy() -> None:
    """Give back what loading took (3 MB), and let the garbage collector pass over what stays.

    To go through all of it takes 30 ms in which nothing is decided.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


async def _no_application(_scope: object, _receive: object, _send: object) -> None:
    """Stand where uvicorn wants an ASGI application. Our protocol never calls it."""
