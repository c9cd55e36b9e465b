"""The processes that serve the decision port.

One worker is this process. Several are processes of their own, each with its own listening
socket on the same address (SO_REUSEPORT), so that the kernel spreads the connections. This
process binds those sockets and keeps them: when a worker dies, what waits in its socket is
answered by the one that takes its place. A socket in the file system is one for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.forwardauth.web.answering import answer_on, over
from gatekeeper.forwardauth.web.gathering import Gathering
from gatekeeper.forwardauth.web.listening import bind, listening_sockets, name_of, private_sockets
from gatekeeper.forwardauth.web.operations import serve_operations
from gatekeeper.forwardauth.web.worker import STOPPING, run, work
from gatekeeper.platform.tasks import Supervisor

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence
    from multiprocessing.context import SpawnProcess

    from gatekeeper.forwardauth.config.server import Grpc, Listen, Operations
    from gatekeeper.forwardauth.web.answering import Ask
    from gatekeeper.forwardauth.web.limits import Limits
    from gatekeeper.forwardauth.web.worker import Build
    from gatekeeper.kernel.secret import Secret

log = structlog.get_logger("gatekeeper.forwardauth.workers")

STOP_SECONDS: Final = 7.0
"""After that a worker is killed. Longer than it drains, shorter than `Supervisor.stop` waits."""
_PR_SET_PDEATHSIG: Final = 1


def serve(
    build: Build,
    *,
    listen: Listen,
    workers: int = 1,
    limits: Limits | None = None,
    operations: Operations | None = None,
    grpc: Grpc | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    SIGHUP does nothing, here and in each worker, which inherits that: files are looked at anyway,
    and whoever is used to it for a reload must not end the gate.

    Raises `OSError` when an address cannot be had.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(listening_sockets(listen, workers))
        operated, token = None, None
        if operations is not None:
            address = bind(operations.address, operations.port, shared=False)
            operated, token = stack.enter_context(address), operations.token
            log.info("operations", address="{}:{}".format(*operated.getsockname()[:2]))
        if grpc is not None:
            bind(grpc.address, grpc.port, shared=False).close()  # each worker binds it itself
            log.info("grpc", address=f"{grpc.address}:{grpc.port}")
        log.info("listening", address=name_of(listen, sockets[0]), workers=workers)
        if workers == 1:
            operate = None if operated is None else partial(_alone, operated, token)
            return work(build, sockets[0], limits, operate)
        if operated is None:
            asyncio.run(_supervise([partial(work, build, one, limits, None) for one in sockets]))
            return 0
        private = stack.enter_context(private_sockets(workers))
        duties = [
            partial(work, build, each, limits, partial(answer_on, inner))
            for each, (_, inner) in zip(sockets, private, strict=True)
        ]
        gathering = Gathering([over(path) for path, _ in private])
        asyncio.run(_supervise(duties, partial(serve_operations, operated, gathering, token)))
        return 0


async def _alone(listening: socket.socket, token: Secret | None, worker: Ask) -> None:
    """Serve operations in the process of the only worker."""
    await serve_operations(listening, Gathering([worker]), token)


async def _supervise(
    duties: Sequence[Callable[[], int]], together: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Keep a process for each duty, until told to stop; `together` runs in this one."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in STOPPING:
        loop.add_signal_handler(each, stop.set)
    supervisor = Supervisor(failed=lambda _name: None)  # each is started again
    for number, duty in enumerate(duties, 1):
        supervisor.start_again(f"worker {number}", partial(_run_process, duty))
    if together is not None:
        supervisor.start_again("operations", lambda: run(together))
    await stop.wait()
    await supervisor.stop()


async def _run_process(duty: Callable[[], int]) -> None:
    """Run a worker until it ends; when this is cancelled, end it."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_begin, args=(os.getpid(), duty))
    process.start()
    log.info("worker started", pid=process.pid)
    try:
        await _ended(process)
        log.error("worker ended", pid=process.pid, status=process.exitcode)
    except asyncio.CancelledError:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await _ended(process)
        except TimeoutError:
            process.kill()
        raise
    finally:
        process.join()


def _begin(parent: int, duty: Callable[[], int]) -> None:
    # Stop with the parent, however that ends; and at once, if it is gone by now.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        sys.exit(duty())


async def _ended(process: SpawnProcess) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
