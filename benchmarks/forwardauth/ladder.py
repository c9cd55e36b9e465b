"""What a decision costs: CPU of the process that decides, and requests per second of one core."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.forwardauth import servers
from benchmarks.forwardauth.load import load
from benchmarks.forwardauth.processes import LOAD_CORE, cpu_seconds, free_port, memory, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.forwardauth.load import Load
    from benchmarks.forwardauth.processes import Memory

WARM_UP_SECONDS = 1
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row. Each figure is the median of the rounds, but `failed`: their sum."""

    name: str
    cpu_us: float
    """Of the process that decides, user and system, for one request."""
    per_second: float
    p50: float
    p99: float
    failed: int
    memory: Memory
    """After the load."""
    proxy_us: float | None = None
    """CPU of the proxy for one request, where one asks."""


def measure(name: str, asked: Load, pid: int, *, seconds: int, proxy: int | None = None) -> Step:
    """Load what listens, in rounds."""
    asked.run(WARM_UP_SECONDS)
    said, used, proxied = [], [], []
    for _ in range(ROUNDS):
        before = cpu_seconds(pid), 0.0 if proxy is None else cpu_seconds(proxy)
        said.append(asked.run(seconds))
        requests = said[-1].requests
        used.append((cpu_seconds(pid) - before[0]) / requests * 1e6)
        if proxy is not None:
            proxied.append((cpu_seconds(proxy) - before[1]) / requests * 1e6)
    return Step(
        name=name,
        cpu_us=median(used),
        per_second=median(one.per_second for one in said),
        p50=median(one.p50 for one in said),
        p99=median(one.p99 for one in said),
        failed=sum(one.failed for one in said),
        memory=memory(pid),
        proxy_us=median(proxied) if proxied else None,
    )


Scene = Callable[[int, Path, int], Sequence[str]]
"""Makes the command of a server that decides, from its port, a folder, and a backend's port."""


def _told(change: Callable[[servers.Configuration, int], servers.Configuration]) -> Scene:
    def command(port: int, folder: Path, backend: int) -> Sequence[str]:
        configuration = change(servers.configuration(port, free_port()), backend)
        return servers.passctrl(folder / "config.json", configuration)

    return command


SCENES: Mapping[str, Scene] = {
    "decision port, no decision": lambda port, _folder, _backend: servers.constant(port),
    "static rule, remembered": _told(lambda config, _: config),
    "static rule, judged each time": _told(lambda config, _: servers.unlike(config)),
    "kept result (of the five conditions)": _told(
        lambda config, _: servers.keeping(servers.judging(config, 5))
    ),
    "5 CEL conditions, 2 templates, remembered": _told(
        lambda config, _: servers.judging(config, 5)
    ),
    "3 CEL conditions, 3 templates, judged each time": _told(
        lambda config, _: servers.unlike(servers.judging(config, 3))
    ),
    "5 CEL conditions, 3 templates, judged each time": _told(
        lambda config, _: servers.unlike(servers.judging(config, 5))
    ),
    "one call of a backend": _told(servers.calling),
}


WITHOUT_SOCKETS = [*SCENES][1:-1]
"""Those that decide, and call nobody."""


def alone(folder: Path, seconds: int) -> Iterator[Step]:
    """Ask each server as a proxy would."""
    port = free_port()
    with running(servers.nginx(port, folder / "nginx"), port) as pid, load(port) as asked:
        yield measure("nginx `return 200`", asked, pid, seconds=seconds)
    with _backend(folder) as backend:
        for name, command in SCENES.items():
            port = free_port()
            started = running(command(port, folder, backend), port, log=folder / "log")
            with started as pid, load(port, mount=servers.MOUNT) as asked:
                yield measure(name, asked, pid, seconds=seconds)


def behind_nginx(folder: Path, seconds: int) -> Iterator[Step]:
    """Ask nginx, which asks each server by `auth_request`. It runs where the load is made."""
    with _backend(folder) as backend:
        for name, command in SCENES.items():
            asked_port, port, plain = free_port(), free_port(), free_port()
            decider = running(command(asked_port, folder, backend), asked_port, log=folder / "log")
            asking = servers.asking_nginx(port, plain, asked_port, folder / "asking")
            with decider as pid, running(asking, port, core=LOAD_CORE) as proxy:
                if name == next(iter(SCENES)):
                    with load(plain) as clients:
                        yield measure("nginx, nobody asked", clients, proxy, seconds=seconds)
                with load(port) as clients:
                    yield measure(name, clients, pid, seconds=seconds, proxy=proxy)


def hot(folder: Path) -> Iterator[tuple[str, float]]:
    """Measure decisions without sockets, in one process: CPU microseconds."""
    for name, command in SCENES.items():
        if name in WITHOUT_SOCKETS:
            *_, path = command(free_port(), folder, 0)
            asked = [sys.executable, "-m", "benchmarks.forwardauth.hot", path]
            with (folder / "log").open("wb") as log:
                said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=log, check=True)
            yield name, float(said.stdout)


@contextlib.contextmanager
def _backend(folder: Path) -> Iterator[int]:
    port = free_port()
    with running(servers.nginx(port, folder / "backend"), port, core=LOAD_CORE):
        yield port
