"""The sockets that are listened at: made before anything is served, and kept by one process."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG: Final = 2_048
_SOCKET_MODE: Final = 0o660
_PORTS: Final = range(15_000, 30_000)
"""Below what kernels hand to whoever connects (Linux: 32,768 on; RFC 6335: 49,152 on).

Such a port may be somebody's before a server has it, and who tries it until the server is
there may be connected to itself: TCP opens both ends at once.
"""
_ATTEMPTS: Final = 100


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port for a server that must be told its own before it is started.

    Raises `OSError` when a hundred were taken.
    """
    for _ in range(_ATTEMPTS):
        port = secrets.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, port))
            return port
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), address)


def bind(address: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=BACKLOG, reuse_port=shared)


def bind_path(path: Path) -> socket.socket:
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
def private_sockets(workers: int, prefix: str) -> Iterator[list[tuple[Path, socket.socket]]]:
    """Make a socket for each worker, in a folder that only this user can enter."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder, contextlib.ExitStack() as stack:
        paths = [Path(folder, str(number)) for number in range(1, workers + 1)]
        yield [(path, stack.enter_context(bind_path(path))) for path in paths]
