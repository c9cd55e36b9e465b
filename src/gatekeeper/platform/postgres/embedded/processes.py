"""Programs of PostgreSQL as our children: unprivileged, logged, and gone when we are."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import UnavailableError

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Sequence

HOST: Final = "127.0.0.1"
QUIT_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.005
LOG_TAIL_BYTES: Final = 4_096
LOG_TAIL_LINES: Final = 12
LOG_KEEP_BYTES: Final = 10 * 1024 * 1024
"""A longer log is moved to `.log.1` at the next start."""

_UNPRIVILEGED: Final = 65_534
"""`nobody` in a user namespace of its own: PostgreSQL refuses to run as root."""


def spawn(
    command: Sequence[Path | str], *, log: Path, death_signal: str
) -> subprocess.Popen[bytes]:
    """Run a program of PostgreSQL as our child, unprivileged, its output in the log.

    A session of its own: Ctrl-C is for us to hear, and to stop the server in order.
    """
    output = _open_log(log)
    try:
        return subprocess.Popen(  # noqa: S603  # our own words and paths
            [*_unprivileged(), *_dies_with_us(death_signal), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            cwd="/",
            umask=0o077,
            start_new_session=True,
        )
    finally:
        os.close(output)


def failure(what: str, log: Path) -> UnavailableError:
    """Say what failed, with the end of the log, which says why."""
    tail = _tail(log)
    if "unshare failed" in tail:
        what += " (root must hand PostgreSQL to another user, and user namespaces are off: "
        what += "run as an ordinary user, or give a DSN)"
    return UnavailableError(f"{what}; the end of {log}:\n{tail}")


def _open_log(log: Path) -> int:
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_KEEP_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _unprivileged() -> tuple[str, ...]:
    """Return what goes before a command so that it does not run as root."""
    if os.geteuid() != 0:
        return ()
    user, group = f"--map-user={_UNPRIVILEGED}", f"--map-group={_UNPRIVILEGED}"
    return (_util_linux("unshare"), "--user", user, group)


def _dies_with_us(death_signal: str) -> tuple[str, ...]:
    """Return what goes before a command so that the kernel ends it when we are killed.

    The last step before PostgreSQL itself: entering a user namespace may clear it.
    """
    if sys.platform != "linux":
        return ()
    return (_util_linux("setpriv"), "--pdeathsig", death_signal)


def _util_linux(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        msg = f"the program {program} is missing: install the package util-linux"
        raise UnavailableError(msg)
    return path


async def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def kill(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """End a child without an event loop: by this signal, or else by SIGKILL."""
    if process.poll() is not None:
        return
    process.send_signal(first)
    try:
        process.wait(QUIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def works_in(pid: int, folder: Path) -> bool:
    """Tell whether a process lives and works in this folder, as a postmaster does in its own.

    Without /proc (macOS) every live process counts: better refuse than start a second one.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not Path("/proc/self").exists():
        return True
    with suppress(FileNotFoundError):  # a zombie has no folder
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    return False


def _tail(path: Path) -> str:
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        lines: Iterable[str] = file.read().decode(errors="replace").splitlines()
        return "\n".join([*lines][-LOG_TAIL_LINES:])
    return "(no log)"
