"""The sockets that are listened at: made before anything is served, and kept by one process."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from gatekeeper.platform.processes.listening import bind, bind_path

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from gatekeeper.forwardauth.config.server import Listen


@contextlib.contextmanager
def listening_sockets(listen: Listen, workers: int) -> Iterator[list[socket.socket]]:
    if listen.unix_socket is not None:
        path = Path(listen.unix_socket)
        with bind_path(path) as shared:
            yield [shared] * workers
        path.unlink(missing_ok=True)
        return
    with contextlib.ExitStack() as stack:
        port, sockets = listen.port, []
        for _ in range(workers):
            bound = stack.enter_context(bind(listen.address, port, shared=workers > 1))
            port = bound.getsockname()[1]
            sockets.append(bound)
        yield sockets


def name_of(listen: Listen, bound: socket.socket) -> str:
    if listen.unix_socket is not None:
        return listen.unix_socket
    return f"{listen.address}:{bound.getsockname()[1]}"
