"""How long `gk` takes to start, beside an interpreter that does nothing, in the same run.

The starts of all commands take turns, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.databases.workbench import percentile
from benchmarks.report import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS = 20
GK = [sys.executable, "-m", "gatekeeper"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "gk --help": [*GK, "--help"],
    "gk session --help": [*GK, "session", "--help"],
    "gk session list": [*GK, "session", "list"],
}


class _NoSessions(http.server.BaseHTTPRequestHandler):
    """A server that answers at once, so that only gk itself is measured."""

    def do_GET(self) -> None:
        body = b'{"items": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _serving() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NoSessions)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measure(starts: int = STARTS) -> Table:
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with _serving() as url, tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ, "GATEKEEPER_SERVER": url, "GATEKEEPER_HOME": home,
            "GATEKEEPER_TOKEN": "none",
        }  # fmt: skip
        for _ in range(starts):
            for name, command in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run(command, env=environment, capture_output=True, check=True)
                took[name].append(time.perf_counter() - began)
    nothing = percentile(took["python -c pass"], 50)
    return Table(
        title="Start-up",
        columns=("command", "p50 ms", "fastest ms", "against nothing"),
        rows=[
            [
                name, f"{percentile(values, 50) * 1000:.0f}", f"{min(values) * 1000:.0f}",
                f"{percentile(values, 50) / nothing:.0f}x",
            ]
            for name, values in took.items()
        ],
    )  # fmt: skip
