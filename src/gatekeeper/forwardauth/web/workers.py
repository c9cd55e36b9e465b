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
import errno
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
import uvicorn
import uvloop

from gatekeeper.forwardauth.web.answering import Ask, answer_on, over
from gatekeeper.forwardauth.web.gathering import Gathering
from gatekeeper.forwardauth.web.operations import serve_operations
from gatekeeper.forwardauth.web.port import Decide, decision_protocol
from gatekeeper.platform.tasks import Supervisor, run_together

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.context import SpawnProcess

    from gatekeeper.forwardauth.config.server import Grpc, Listen, Operations
    from gatekeeper.forwardauth.web.limits import Limits
    from gatekeeper.kernel.secret import Secret

log = structlog.get_logger("gatekeeper.forwardauth.workers")

BACKLOG: Final = 2_048
DRAIN_SECONDS: Final = 5
"""For answers under way when a worker is told to stop."""
STOP_SECONDS: Final = 7.0
"""Then a worker is killed. Longer than it drains, shorter than `Supervisor.stop` waits."""
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG: Final = 1
_SOCKET_MODE: Final = 0o660


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
        sockets = stack.enter_context(_listening(listen, workers))
        operated = None
        if operations is not None:
            address = _bind(operations.address, operations.port, shared=False)
            operated = stack.enter_context(address)
            log.info("operations", address="{}:{}".format(*operated.getsockname()[:2]))
        if grpc is not None:
            _bind(grpc.address, grpc.port, shared=False).close()  # each worker binds it itself
            log.info("grpc", address=f"{grpc.address}:{grpc.port}")
        log.info("listening", address=_name(listen, sockets[0]), workers=workers)
        if workers == 1:
            operate = None
            if operations is not None and operated is not None:
                operate = partial(_alone, operated, operations.token)
            return _work(build, sockets[0], limits, operate)
        starts = [partial(_start, build, each, limits, None) for each in sockets]
        together = None
        if operations is not None and operated is not None:
            private = stack.enter_context(_private_sockets(workers))
            starts = [
                partial(_start, build, each, limits, partial(answer_on, inner))
                for each, (_, inner) in zip(sockets, private, strict=True)
            ]
            gathering = Gathering([over(path) for path, _ in private])
            together = partial(serve_operations, operated, gathering, operations.token)
        asyncio.run(_supervise(starts, together))
        return 0


async def _alone(listening: socket.socket, token: Secret | None, worker: Ask) -> None:
    """Serve operations in the process of the only worker."""
    await serve_operations(listening, Gathering([worker]), token)


# Sockets.


@contextlib.contextmanager
def _listening(listen: Listen, workers: int) -> Iterator[list[socket.socket]]:
    if listen.unix_socket is not None:
        path = Path(listen.unix_socket)
        with _bind_path(path) as shared:
            yield [shared] * workers
        path.unlink(missing_ok=True)
        return
    with contextlib.ExitStack() as stack:
        port, sockets = listen.port, []
        for _ in range(workers):
            bound = stack.enter_context(_bind(listen.address, port, shared=workers > 1))
            port = bound.getsockname()[1]
            sockets.append(bound)
        yield sockets


def _bind(address: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=BACKLOG, reuse_port=shared)


def _bind_path(path: Path) -> socket.socket:
    """Listen at a path. A socket that nobody listens at any more is replaced."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
        path.unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(str(path))
        path.chmod(_SOCKET_MODE)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


@contextlib.contextmanager
def _private_sockets(workers: int) -> Iterator[list[tuple[Path, socket.socket]]]:
    """Make a socket for each worker, in a folder that only this user can enter."""
    with tempfile.TemporaryDirectory(prefix="passctrl-") as folder, contextlib.ExitStack() as stack:
        paths = [Path(folder, str(number)) for number in range(1, workers + 1)]
        yield [(path, stack.enter_context(_bind_path(path))) for path in paths]


def _name(listen: Listen, bound: socket.socket) -> str:
    if listen.unix_socket is not None:
        return listen.unix_socket
    return f"{listen.address}:{bound.getsockname()[1]}"


# A worker.


def _work(
    build: Build, listening: socket.socket, limits: Limits | None, operate: Operate | None
) -> int:
    for number in _STOPPING:
        # uvicorn takes these while it serves, and sends them again when it has stopped in order.
        signal.signal(number, _stopped)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(build, listening, limits, operate))


def _stopped(_number: int, _frame: object) -> None:
    pass


async def _serve(
    build: Build, listening: socket.socket, limits: Limits | None, operate: Operate | None
) -> int:
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(build())
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
            tasks["background"] = _run(application.background)
        if operate is not None and application.operated is not None:
            tasks["operations"] = _run(partial(operate, application.operated))
        await stack.enter_async_context(run_together(tasks, failed=failed))
        await server.serve(sockets=[listening])
        return 1 if failures else 0


async def _run(background: Callable[[], Awaitable[None]]) -> None:
    await background()


async def _no_application(_scope: object, _receive: object, _send: object) -> None:
    """Stand where uvicorn wants an ASGI application. Our protocol never calls it."""


# Several workers.


def _start(
    build: Build, listening: socket.socket, limits: Limits | None, operate: Operate | None
) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=_begin, args=(os.getpid(), build, listening, limits, operate)
    )
    process.start()
    return process


def _begin(
    parent: int,
    build: Build,
    listening: socket.socket,
    limits: Limits | None,
    operate: Operate | None,
) -> None:
    # Stop with the parent, however that ends; and at once, if it is gone by now.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        sys.exit(_work(build, listening, limits, operate))


async def _supervise(
    starts: Sequence[Callable[[], SpawnProcess]], together: Callable[[], Awaitable[None]] | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in _STOPPING:
        loop.add_signal_handler(each, stop.set)
    supervisor = Supervisor(failed=lambda _name: None)  # each is started again
    for number, start in enumerate(starts, 1):
        supervisor.start_again(f"worker {number}", partial(_run_process, start))
    if together is not None:
        supervisor.start_again("operations", lambda: _run(together))
    await stop.wait()
    await supervisor.stop()


async def _run_process(start: Callable[[], SpawnProcess]) -> None:
    """Run a worker until it ends; when this is cancelled, end it."""
    process = start()
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


async def _ended(process: SpawnProcess) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
