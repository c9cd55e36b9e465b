"""Waiting for what others do, without a guess at how long it takes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

STILL_SECONDS = 0.2
MOST_SECONDS = 15.0


async def eventually(ask: Callable[[], Awaitable[Any]], seconds: float = MOST_SECONDS) -> Any:
    """Ask until there is an answer, or the time is over; return the last one."""
    async with asyncio.timeout(seconds + 5):
        deadline = asyncio.get_running_loop().time() + seconds
        while not (found := await ask()) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
    return found


async def settled(look: Callable[[], T]) -> T:
    """Wait until there is something, and it changes no more; return it."""
    async with asyncio.timeout(MOST_SECONDS):
        before, now = None, look()
        while not now or now != before:
            await asyncio.sleep(STILL_SECONDS)
            before, now = now, look()
    return now
