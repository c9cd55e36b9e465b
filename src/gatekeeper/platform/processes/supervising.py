"""Keeping processes running: each does one duty, and is started anew when it ends."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.platform.tasks import Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from multiprocessing.context import SpawnProcess

log = structlog.get_logger("gatekeeper.processes")

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
STOP_SECONDS: Final = 7.0
"""After that a process is killed. Longer than it drains, shorter than `Supervisor.stop` waits."""
_PR_SET_PDEATHSIG: Final = 1


async def supervise(
    duties: Sequence[Callable[[], int]], together: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Keep a process for each duty, until told to stop; `together` runs in this one.

    A duty returns an exit status, and must be picklable.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in STOPPING:
        loop.add_signal_handler(each, stop.set)
    supervisor = Supervisor(failed=lambda _name: None)  # each is started again
    for number, duty in enumerate(duties, 1):
        supervisor.start_again(f"worker {number}", partial(_run_process, duty))
    if together is not None:
        supervisor.start_again("operations", lambda: run(together))
    await stop.wait()
    await supervisor.stop()


async def run(work: Callable[[], Awaitable[None]]) -> None:
    """Make a coroutine of what only gives an awaitable."""
    await work()


async def _run_process(duty: Callable[[], int]) -> None:
    """Run a worker until it ends; when this is cancelled, end it."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_begin, args=(os.getpid(), duty))
    process.start()
    log.info("worker started", pid=process.pid)
    try:
        await _ended(process)
        log.error("worker ended", pid=process.pid, status=process.exitcode)
    except asyncio.CancelledError:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await _ended(process)
        except TimeoutError:
            process.kill()
        raise
    finally:
        process.join()


def _begin(parent: int, duty: Callable[[], int]) -> None:
    # Stop with the parent, however that ends; and at once, if it is gone by now.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        sys.exit(duty())


async def _ended(process: SpawnProcess) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
