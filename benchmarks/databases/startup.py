"""How long `gk` takes to start, beside an interpreter that does nothing, in the same run.

    python -m benchmarks.databases.startup [--starts N]

The starts of all commands take turns, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import http.server
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=STARTS)
    starts = parser.parse_args().starts
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
    nothing = statistics.median(took["python -c pass"])
    print(f"{'command':<20} {'median':>9} {'fastest':>9} {'ratio':>7}")
    for name, values in took.items():
        median = statistics.median(values)
        fastest = min(values)
        print(
            f"{name:<20} {median * 1000:6.0f} ms {fastest * 1000:6.0f} ms {median / nothing:6.1f}x"
        )


if __name__ == "__main__":
    main()
