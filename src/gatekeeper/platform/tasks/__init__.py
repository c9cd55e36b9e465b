"""Background tasks that are owned: named, watched, and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

log = structlog.get_logger("gatekeeper.tasks")

STOP_SECONDS: Final = 8.0


@asynccontextmanager
async def run_together(
    tasks: Mapping[str, Coroutine[object, object, None]], *, failed: Callable[[str], None]
) -> AsyncIterator[None]:
    """Run tasks for as long as the block lasts.

    None of them is to end by itself: `failed(name)` is told of one that does, and the
    caller decides (a process stops, so that its supervisor starts it anew).
    """
    running = {asyncio.create_task(work, name=name) for name, work in tasks.items()}

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("task ended", task=task.get_name(), exc_info=task.exception())
            failed(task.get_name())

    for task in running:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            _done, stuck = await asyncio.wait(running, timeout=STOP_SECONDS)
            for task in stuck:
                log.error("task does not stop", task=task.get_name())
