"""The owner of background tasks. None of them is to end before it is told to.

A task that ends early is logged with its name. One that may be restarted is, after a
pause that grows; for any other, `failed(name)` is called, and the caller decides (a
process stops, so that whoever watches it starts it anew).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    Work = Coroutine[object, object, None]

log = structlog.get_logger("gatekeeper.tasks")

STOP_SECONDS: Final = 8.0
"""Longer than what a task itself waits for when it stops (the queue's worker: 7 s)."""
FIRST_PAUSE_SECONDS: Final = 0.5
MOST_PAUSE_SECONDS: Final = 30.0
HEALTHY_SECONDS: Final = 60.0
"""A task that ran for this long has recovered: its next pause is short again."""


class Supervisor:
    """Runs named tasks until `stop`."""

    def __init__(self, *, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self, name: str, work: Work) -> None:
        """Run a task; if it ends before `stop`, `failed` is told its name."""
        if self._stopping:
            work.close()
            msg = f"task {name!r} is started while the others are stopped"
            raise RuntimeError(msg)
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def start_again(self, name: str, make: Callable[[], Work]) -> None:
        """Run a task; whenever it ends, run it again after a pause."""
        self.start(name, _run_again(name, make))

    async def stop(self, seconds: float = STOP_SECONDS) -> tuple[str, ...]:
        """Cancel all tasks and wait; return the names of those that are stuck."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            return ()
        _done, stuck = await asyncio.wait(self._tasks, timeout=seconds)
        names = tuple(sorted(task.get_name() for task in stuck))
        if names:
            log.error("tasks do not stop", tasks=names, seconds=seconds)
        return names

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("task failed", task=task.get_name(), exc_info=error)
        if self._stopping:
            return
        if error is None:
            log.error("task ended early", task=task.get_name(), cancelled=task.cancelled())
        self._failed(task.get_name())


@asynccontextmanager
async def run_together(
    tasks: Mapping[str, Work], *, failed: Callable[[str], None]
) -> AsyncIterator[None]:
    """Run tasks for as long as the block lasts; `failed(name)` hears of one that ends."""
    supervisor = Supervisor(failed=failed)
    for name, work in tasks.items():
        supervisor.start(name, work)
    try:
        yield
    finally:
        await supervisor.stop()


async def _run_again(name: str, make: Callable[[], Work]) -> None:
    loop, failures = asyncio.get_running_loop(), 0
    while True:
        began = loop.time()
        try:
            await make()
            log.error("task ended early", task=name)
        except Exception:
            log.exception("task failed", task=name)
        failures = 1 if loop.time() - began >= HEALTHY_SECONDS else failures + 1
        await asyncio.sleep(pause(failures))


def pause(failures: int) -> float:
    """Return how many seconds to wait after the given number (1 or more) of quick ends."""
    return min(MOST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 64))
