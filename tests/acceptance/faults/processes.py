"""Processes of Gatekeeper for these tests, each one that `kill -9` can end.

They run what `gk serve` runs. They are forked from a process that has imported everything
once, so that a start costs tens of milliseconds: hundreds of them are killed here.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

Role = Literal["control-plane", "agent"]
Prepare = Callable[[Role], None]
"""Changes a process of this role before it starts."""

STOP_SECONDS: Final = 20
_PR_SET_PDEATHSIG: Final = 1

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["gatekeeper.entrypoints.operate.serve"])


class Process:
    """One control plane or agent."""

    def __init__(self, role: Role, config: Path, prepare: Sequence[Prepare] = ()) -> None:
        self.role = role
        self.log = config.with_suffix(".log")
        self._config = config
        self._prepare = tuple(prepare)
        self._process: multiprocessing.process.BaseProcess | None = None

    def start(self) -> None:
        arguments = (self.role, self._config, self.log, self._prepare)
        self._process = _fork.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it lives; minus the signal that killed it."""
        assert self._process is not None
        return self._process.exitcode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self.wait()

    def wait(self) -> None:
        assert self._process is not None
        self._process.join(STOP_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            msg = f"{self.role} did not stop:\n{self.log.read_text()[-2000:]}"
            raise AssertionError(msg)


def _serve(role: Role, config: Path, log: Path, prepare: Sequence[Prepare]) -> None:
    from gatekeeper.entrypoints.operate import serve  # noqa: PLC0415  # in the child alone

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for step in prepare:
        step(role)
    {"control-plane": serve.control_plane, "agent": serve.agent}[role](config)
