"""wrk, and the requests it sends: as many different ones as a busy site sees in a moment.

One request over and over would be found in every cache there is, also in those that help
nobody in practice.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.forwardauth.processes import LOAD_CORE

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 16
REQUESTS, TOKENS, CLIENTS, AGENTS = 1_024, 64, 200, 16

TOKEN = "%04d-0123456789abcdef0123456789abcdef"
HOST = "app.example.com"

SCRIPT = """
local requests, at = {{}}, 0
init = function(arguments)
  for i = 0, {requests} - 1 do
    local uri = "/orders/" .. i .. "?full=1"
    local headers = {{
      ["Authorization"] = string.format("Bearer {token}", i % {tokens}),
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:" .. (125 + i % {agents})
        .. ".0) Gecko/20100101 Firefox/" .. (125 + i % {agents}) .. ".0",
      ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
      ["Host"] = "{host}",
    }}
    if {direct} then
      headers["X-Forwarded-For"] = "203.0.113." .. (1 + i % {clients})
      headers["X-Forwarded-Method"] = "GET"
      headers["X-Forwarded-Proto"] = "https"
      headers["X-Forwarded-Host"] = "{host}"
      headers["X-Forwarded-Uri"] = uri
      uri = "{path}"
    end
    requests[#requests + 1] = wrk.format("GET", uri, headers)
  end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What wrk measured. Times are in milliseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float
    failed: int
    """Answers that were neither 2xx nor 3xx, and socket errors."""


class Load:
    """Sends requests to a port: as a proxy asks (`path` is the mount), or as clients do."""

    def __init__(self, script: Path, port: int) -> None:
        self._script = script
        self._port = port

    def run(self, seconds: int, *, core: str = LOAD_CORE) -> Said:
        return parsed(self.start(seconds, core=core).communicate()[0])

    def start(self, seconds: int, *, core: str = LOAD_CORE) -> subprocess.Popen[str]:
        asked = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
        return subprocess.Popen(
            ["taskset", "-c", core, "wrk", *asked, "-s", str(self._script), self.url],
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"


@contextlib.contextmanager
def load(port: int, *, mount: str | None = None) -> Iterator[Load]:
    """Prepare the requests: those of a proxy that asks at `mount`, or those of clients."""
    text = SCRIPT.format(
        requests=REQUESTS,
        tokens=TOKENS,
        clients=CLIENTS,
        agents=AGENTS,
        token=TOKEN,
        host=HOST,
        direct="false" if mount is None else "true",
        path=mount or "",
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
        script.write(text)
        script.flush()
        yield Load(Path(script.name), port)


def missing() -> str | None:
    """Say what is not installed."""
    needed = [name for name in ("wrk", "taskset") if shutil.which(name) is None]
    return f"not installed: {', '.join(needed)} (Debian: apt install wrk)" if needed else None


def parsed(text: str) -> Said:
    failures = re.findall(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", text)
    return Said(
        requests=int(_find(r"(\d+) requests in", text)),
        per_second=float(_find(r"Requests/sec: +([\d.]+)", text)),
        p50=_milliseconds(_find(r"50% +(\S+)", text)),
        p99=_milliseconds(_find(r"99% +(\S+)", text)),
        failed=sum(int(one) for failed in failures for one in re.findall(r"\d+", "".join(failed))),
    )


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        msg = f"wrk said:\n{text}"
        raise SystemExit(msg)
    return found[1]
