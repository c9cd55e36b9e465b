"""The processes that serve the decision port.

One worker is this process. Several are processes of their own, each with its own listening
socket on the same address (SO_REUSEPORT), so that the kernel spreads the connections. This
process binds those sockets and keeps them: when a worker dies, what waits in its socket is
answered by the one that takes its place. A socket in the file system is one for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gatekeeper.forwardauth.web.answering import SLOW_QUESTIONS
from gatekeeper.forwardauth.web.gathering import Gathering
from gatekeeper.forwardauth.web.listening import listening_sockets, name_of
from gatekeeper.forwardauth.web.operations import serve_operations
from gatekeeper.forwardauth.web.worker import work
from gatekeeper.platform.processes.asking import answer_on, over
from gatekeeper.platform.processes.listening import bind, private_sockets
from gatekeeper.platform.processes.supervising import supervise

if TYPE_CHECKING:
    import socket

    from gatekeeper.forwardauth.config.server import Grpc, Listen, Operations
    from gatekeeper.forwardauth.web.limits import Limits
    from gatekeeper.forwardauth.web.worker import Build
    from gatekeeper.kernel.secret import Secret
    from gatekeeper.platform.processes.asking import Ask

log = structlog.get_logger("gatekeeper.forwardauth.workers")


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
            asyncio.run(supervise([partial(work, build, one, limits, None) for one in sockets]))
            return 0
        private = stack.enter_context(private_sockets(workers, "passctrl-"))
        duties = [
            partial(work, build, each, limits, partial(answer_on, inner))
            for each, (_, inner) in zip(sockets, private, strict=True)
        ]
        gathering = Gathering([over(path, SLOW_QUESTIONS) for path, _ in private])
        asyncio.run(supervise(duties, partial(serve_operations, operated, gathering, token)))
        return 0


async def _alone(listening: socket.socket, token: Secret | None, worker: Ask) -> None:
    """Serve operations in the process of the only worker."""
    await serve_operations(listening, Gathering([worker]), token)
