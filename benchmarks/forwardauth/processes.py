"""Processes that are measured: started, pinned to cores, read in /proc, ended."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATIENCE_SECONDS = 20.0
PROBES = 16
"""Connections that must be answered: enough to reach each of two workers."""
TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = "0", str((os.cpu_count() or 1) - 1)
BOTH_CORES = f"{SERVER_CORE},{LOAD_CORE}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process, in MiB. `file` is shared by all who run the same code."""

    anonymous: float
    file: float

    @property
    def resident(self) -> float:
        return self.anonymous + self.file


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, *, core: str = SERVER_CORE, log: Path | None = None
) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it listens."""
    with contextlib.ExitStack() as stack:
        errors = None if log is None else stack.enter_context(log.open("wb"))
        process = stack.enter_context(
            subprocess.Popen(["taskset", "-c", core, *command], stderr=errors, env=environment())
        )
        stack.callback(process.terminate)
        _until_it_answers(port, process)
        yield process.pid


def _answer(port: int) -> None:
    """Wait for an answer: a port is bound before what listens there has loaded anything."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
        connection.recv(1)


def environment() -> dict[str, str]:
    """Let Python keep its byte code, as it does unless it is told otherwise: compiling anew at
    each start leaves 4 MiB behind.
    """
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def _until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            for _ in range(PROBES):
                _answer(port)
            return
        time.sleep(0.02)
    msg = f"it does not serve: {process.args!r}"
    raise SystemExit(msg)


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(each for child in children for each in family(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of a process and its living descendants."""
    return sum(_ticks(each) for each in family(pid)) / TICKS


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime, stime: proc_pid_stat(5)


def memory(pid: int) -> Memory:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kib = {name: int(value) for name, value in re.findall(r"Rss(\w+):\s+(\d+) kB", status)}
    return Memory(kib["Anon"] / 1024, kib["File"] / 1024)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
