"""A decision from the bytes of its request to those of its answer, without sockets.

    python -m benchmarks.forwardauth.hot CONFIG

The same process asks and answers, so that nothing comes between: what the code itself costs,
on a machine that is shared as well. Prints CPU microseconds, the median of the best half.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from uvicorn.server import ServerState

from benchmarks.forwardauth.load import AGENTS, CLIENTS, HOST, REQUESTS, TOKEN, TOKENS
from benchmarks.forwardauth.servers import MOUNT
from gatekeeper.bootstrap.forwardauth.serving import application
from gatekeeper.forwardauth.web.limits import Limits
from gatekeeper.forwardauth.web.port import DecisionProtocol

ROUNDS = 60

REQUEST = """GET {mount} HTTP/1.1
Authorization: Bearer {token}
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:{agent}.0) Gecko/20100101 Firefox/{agent}.0
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Host: {host}
X-Forwarded-For: 203.0.113.{client}
X-Forwarded-Method: GET
X-Forwarded-Proto: https
X-Forwarded-Host: {host}
X-Forwarded-Uri: /orders/{number}?full=1

"""


class Answered(asyncio.Transport):
    """Remembers the last answer."""

    data: Any = b""

    def write(self, data: Any) -> None:
        self.data = data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default


def requests() -> list[bytes]:
    return [
        REQUEST.format(
            mount=MOUNT,
            token=TOKEN % (number % TOKENS),
            agent=125 + number % AGENTS,
            host=HOST,
            client=1 + number % CLIENTS,
            number=number,
        )
        .replace("\n", "\r\n")
        .encode()
        for number in range(REQUESTS)
    ]


async def measure(path: Path) -> float:
    async with application(path, {}) as running:
        port = DecisionProtocol(running.decide, limits=Limits(), server=ServerState())
        answered = Answered()
        port.connection_made(answered)
        asked, took = requests(), []
        for _ in range(ROUNDS):
            began = time.process_time()
            for request in asked:
                port.data_received(request)
            took.append((time.process_time() - began) / len(asked) * 1e6)
            await asyncio.sleep(0)
        if not answered.data.startswith(b"HTTP/1.1 200"):
            sys.exit(f"refused: {answered.data!r}")
        port.connection_lost(None)
    return sorted(took)[ROUNDS // 4]


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(f"{runner.run(measure(Path(sys.argv[1]))):.1f}")
