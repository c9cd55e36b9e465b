"""The processes of one gateway, which share a port (SO_REUSEPORT).

This process binds their sockets and keeps them: when one dies, those who wait in its socket are
answered by the one that takes its place. One process is this one itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gatekeeper.platform.processes.asking import answer_on, over
from gatekeeper.platform.processes.gathering import Gathering
from gatekeeper.platform.processes.listening import bind, private_sockets
from gatekeeper.platform.processes.operating import serve_watchers, watched
from gatekeeper.platform.processes.supervising import supervise
from gatekeeper.terminals.gateway.worker import work

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from gatekeeper.platform.processes.asking import Ask
    from gatekeeper.terminals.gateway.worker import Build

log = structlog.get_logger("gatekeeper.gateway")

Address = tuple[str, int]


def serve(build: Build, *, listen: Address, processes: int, operations: Address | None) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    Raises `OSError` when an address cannot be had.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(bind(*listen, shared=processes > 1))]
        port = sockets[0].getsockname()[1]
        sockets += [
            stack.enter_context(bind(listen[0], port, shared=True)) for _ in range(processes - 1)
        ]
        operated = None
        if operations is not None:
            operated = stack.enter_context(bind(*operations, shared=False))
            log.info("operations", address="{}:{}".format(*operated.getsockname()[:2]))
        log.info("listening", address=f"{listen[0]}:{port}", processes=processes)
        if processes == 1:
            return work(build, sockets[0], None if operated is None else partial(_alone, operated))
        if operated is None:
            asyncio.run(supervise([partial(work, build, one, None) for one in sockets]))
            return 0
        private = stack.enter_context(private_sockets(processes, "gatekeeper-"))
        duties = [
            partial(work, build, one, partial(answer_on, inner))
            for one, (_, inner) in zip(sockets, private, strict=True)
        ]
        asks = [over(path) for path, _ in private]
        asyncio.run(supervise(duties, partial(_watch, operated, asks)))
        return 0


async def _alone(listening: socket.socket, worker: Ask) -> None:
    await _watch(listening, [worker])


async def _watch(listening: socket.socket, workers: Sequence[Ask]) -> None:
    gathering = Gathering(workers, name="gatekeeper_gateway")
    await serve_watchers(listening, watched(gathering))
