"""The candidate of shadow mode. Whatever is wrong with it, the active configuration goes on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.bootstrap.forwardauth.configuration import first_generation, next_generation
from gatekeeper.bootstrap.forwardauth.deciding import make_decider
from gatekeeper.bootstrap.forwardauth.outbound import Outbound
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.adapters.watching import ConfigurationWatcher
from gatekeeper.forwardauth.errors import ConfigurationError
from gatekeeper.forwardauth.shadow import Careful
from gatekeeper.forwardauth.web.shadowing import LastDecided

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatekeeper.forwardauth.config.loaded import Loaded
    from gatekeeper.forwardauth.errors import Problem
    from gatekeeper.forwardauth.web.shadowing import Shadowing

log = structlog.get_logger("gatekeeper.forwardauth.shadow")

RETRY_SECONDS: Final = 5.0
"""Between two attempts to load a candidate that cannot be."""


async def follow(
    path: Path, environ: Mapping[str, str], shadowing: Shadowing, *, clock: Callable[[], float]
) -> None:
    """Let a candidate follow, as soon as it can be loaded, until cancelled."""
    told: tuple[str, ...] = ()
    while True:
        try:
            await _follow(path, environ, shadowing, clock=clock)
        except ConfigurationError as error:
            problems = tuple(map(str, error.problems))
            if problems != told:
                log.warning("the candidate cannot be loaded", problems=problems)
            told = problems
        except Exception as error:  # noqa: BLE001  # of it the type alone
            log.error("the candidate failed", error=type(error).__name__)  # noqa: TRY400
        await asyncio.sleep(RETRY_SECONDS)


async def _follow(
    path: Path, environ: Mapping[str, str], shadowing: Shadowing, *, clock: Callable[[], float]
) -> None:
    loaded = await asyncio.to_thread(load, path, environ=environ)
    generation = await asyncio.to_thread(first_generation, path, loaded)
    async with AsyncExitStack() as stack:
        observed, outbound = LastDecided(), Outbound(loaded.configuration.server)
        stack.push_async_callback(outbound.close)
        decider = make_decider(
            loaded,
            generation,
            outbound=outbound,
            backends=Careful(outbound),
            observer=observed,
            clock=clock,
        )

        async def take(changed: Loaded) -> None:
            number = decider.generation.number + 1
            decider.replace(await asyncio.to_thread(next_generation, path, changed, number))

        async def rejected(_problems: tuple[Problem, ...]) -> None:
            """Say nothing more: the watcher has."""

        watcher = ConfigurationWatcher(
            path, environ=environ, running=loaded, taken=take, rejected=rejected
        )
        shadowing.take(decider, observed)
        stack.callback(shadowing.leave)
        await watcher.run()
