"""`gk serve runner`, as a process, with the sandbox that this machine has."""
# ruff: noqa: ASYNC220, ASYNC240  # one test, one loop: nobody is kept waiting

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runner_rig import SECONDS, Rig

from gatekeeper.entrypoints.operate.toml import write_toml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Served(Rig):
    """A runner in a process of its own; its control plane is away."""

    process: subprocess.Popen[bytes]

    async def start(self) -> None:
        config = self.folder / "runner.toml"
        write_toml(config, self.settings.model_dump(mode="json", exclude_none=True))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gatekeeper", "serve", "runner", "--config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with asyncio.timeout(SECONDS):
            while not await self._answers():
                assert self.process.poll() is None
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.path)
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    if shutil.which("bwrap") is None:
        pytest.skip("there is no bubblewrap on this machine")
    async with Served() as rig:
        yield rig


def alive(word: str) -> bool:
    """Say whether a process has this argument."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in entry.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


async def until_gone(word: str) -> None:
    async with asyncio.timeout(SECONDS):
        while alive(word):
            await asyncio.sleep(0.05)


async def test_it_ends_in_order_and_in_time(served: Served) -> None:
    order = await served.launch("/bin/sh", "-c", "setsid sleep 86311 & sleep 86311")
    async with served.client(order) as client:
        served.process.send_signal(signal.SIGTERM)
        assert (await client.until_closed())[0] == 1012
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(served.process.wait) == 0
    await until_gone("86311")
    assert not Path(served.path).exists()
    assert served.recording(order)


async def test_nothing_survives_a_runner_that_is_killed(served: Served) -> None:
    order = await served.launch("/bin/sh", "-c", "setsid sleep 86312 & sleep 86312")
    async with served.client(order) as client:
        async with asyncio.timeout(SECONDS):
            while not alive("86312"):
                await asyncio.sleep(0.05)
        served.process.kill()
        assert (await client.until_closed())[0] in {0, 1006}
    await until_gone("86312")
    await served.stop()
    await served.start()
    refused = await served.order(order)
    assert refused.type == "failed"
    assert list((served.settings.folder / "work").iterdir()) == []
