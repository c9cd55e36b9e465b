"""A real Valkey (or Redis) for a test: on a free loopback port, with nothing on disk."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import pytest

from gatekeeper.platform.processes.listening import free_port

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_SECONDS = 20.0


def binary() -> str:
    """Find the server; skip the test where there is none."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    return found


@dataclass
class ValkeyServer:
    """A server that a test can stop, kill and start again on the same port."""

    folder: Path
    options: tuple[str, ...] = ()
    tls: bool = False
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self.port = free_port()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        ports = ("--port", "0", "--tls-port") if self.tls else ("--port",)
        self._process = subprocess.Popen(
            [
                binary(), *ports, str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", str(self.folder), *self.options,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert self._process.poll() is None, "the server ended"
            assert time.monotonic() < ends, "the server does not listen"
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it as it is: its port takes connections and nothing answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
