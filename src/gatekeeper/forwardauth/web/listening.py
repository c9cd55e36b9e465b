"""The sockets that are listened at: made before anything is served, and kept by one process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatekeeper.forwardauth.config.server import Listen

BACKLOG: Final = 2_048
_SOCKET_MODE: Final = 0o660


@contextlib.contextmanager
def listening_sockets(listen: Listen, workers: int) -> Iterator[list[socket.socket]]:
    if listen.unix_socket is not None:
        path = Path(listen.unix_socket)
        with _bind_path(path) as shared:
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


def bind(address: str, port: int, *, shared: bool) -> socket.socket:
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
def private_sockets(workers: int) -> Iterator[list[tuple[Path, socket.socket]]]:
    """Make a socket for each worker, in a folder that only this user can enter."""
    with tempfile.TemporaryDirectory(prefix="passctrl-") as folder, contextlib.ExitStack() as stack:
        paths = [Path(folder, str(number)) for number in range(1, workers + 1)]
        yield [(path, stack.enter_context(_bind_path(path))) for path in paths]


def name_of(listen: Listen, bound: socket.socket) -> str:
    if listen.unix_socket is not None:
        return listen.unix_socket
    return f"{listen.address}:{bound.getsockname()[1]}"
