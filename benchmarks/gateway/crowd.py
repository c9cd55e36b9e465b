"""More clients than one process may have files for: some processes of them, each with an address.

`python -m benchmarks.gateway.crowd PORT SOURCE` attaches the clients whose requests a line of its
input names, has all that it holds echo a frame, and answers with how many that are.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import uvloop

from benchmarks.gateway.measuring import (
    CONNECTING,
    SETTLE_SECONDS,
    attach_many,
    echo_all,
    private_kib,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.gateway.servers import Proxy

CLIENTS: Final = 10_000
"""Of one of these processes, and of one upstream."""
_LINE_BYTES: Final = 2**26
"""Of the requests of so many clients, as JSON."""
_SPARE_FILES: Final = 100


class Many(NamedTuple):
    kib: float
    """Of each client, in all processes of the gateway together."""
    mib: float
    """Of these processes, with all clients."""
    shares: list[int]
    """Clients that each process took: the kernel divides them."""


class Crowd:
    """One process of clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._told = cast("asyncio.StreamWriter", process.stdin)
        self._says = cast("asyncio.StreamReader", process.stdout)

    async def attach(self, requests: Sequence[bytes]) -> int:
        """Attach more, have all echo, and return how many they are."""
        self._told.write(json.dumps([one.decode() for one in requests]).encode() + b"\n")
        await self._told.drain()
        return int(await self._says.readline())

    async def leave(self) -> None:
        self._told.close()
        await self._process.wait()


async def many(proxy: Proxy, count: int, processes: int) -> Many:
    """Measure what each of so many clients costs, in a gateway of several processes."""
    crowds = [
        Crowd(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.gateway.crowd", str(proxy.port), source,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
            )
        )
        for source in (f"127.0.0.{each}" for each in range(1, math.ceil(count / CLIENTS) + 1))
    ]  # fmt: skip
    try:
        return await _fill(crowds, proxy, count, processes)
    finally:
        for crowd in crowds:
            await crowd.leave()


async def _fill(crowds: Sequence[Crowd], proxy: Proxy, count: int, processes: int) -> Many:
    requests = [proxy.request() for _ in range(count)]  # signed before any of them idles
    few = CONNECTING * processes
    await _attach(crowds, requests[:few])  # by then each process serves
    pids = _workers(proxy.pid)
    before, files = sum(map(private_kib, pids)), [_open_files(pid) for pid in pids]
    await _attach(crowds, requests[few:])
    after = sum(map(private_kib, pids))
    shares = [(_open_files(pid) - had) // 2 for pid, had in zip(pids, files, strict=True)]
    if await _attach(crowds, []) != count:
        msg = "some clients were lost"
        raise RuntimeError(msg)
    return Many((after - before) / (count - few), after / 1_024, shares)


async def _attach(crowds: Sequence[Crowd], requests: Sequence[bytes]) -> int:
    asked = [crowd.attach(requests[at :: len(crowds)]) for at, crowd in enumerate(crowds)]
    attached = sum(await asyncio.gather(*asked))
    await asyncio.sleep(SETTLE_SECONDS)
    return attached


def _workers(pid: int) -> list[int]:
    """Return the processes that a gateway of several serves with."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [
        int(child)
        for child in children.split()
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # thousands, only counted


def raise_files() -> int:
    """Take as many files as are allowed, for this process and those that it starts."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def fewest_processes(count: int, files: int) -> int:
    """Return how many processes hold so many clients, with two files each."""
    # The kernel divides by a hash of addresses: a tenth is spare.
    return math.ceil(1.1 * count / ((files - _SPARE_FILES) // 2))


async def main(port: int, source: str) -> None:
    clients = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        requests = [one.encode() for one in json.loads(line)]
        clients += await attach_many(port, requests, source=source)
        await echo_all(clients)
        print(len(clients), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
