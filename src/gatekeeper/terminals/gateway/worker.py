"""One gateway process, from its start to the signal that ends it."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import uvloop

from gatekeeper.platform.processes.asking import Ask, family
from gatekeeper.platform.processes.supervising import STOPPING, run
from gatekeeper.platform.tasks import Supervisor
from gatekeeper.terminals.gateway.server import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable

    from gatekeeper.terminals.gateway.connection import Gate
    from gatekeeper.terminals.gateway.watching import Watcher


class Application(NamedTuple):
    """What a process runs; `background` are its tasks, each started again when it fails."""

    gate: Gate
    watcher: Watcher
    background: Mapping[str, Callable[[], Awaitable[None]]]


Build = Callable[[], AbstractAsyncContextManager[Application]]
"""Makes what a process runs, in it and on its loop. Must be picklable."""

Operate = Callable[[Ask], "Awaitable[None]"]
"""Lets a process be asked, for as long as it runs."""


def work(build: Build, listening: socket.socket, operate: Operate | None) -> int:
    """Be a gateway process until told to stop; return the exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_one(build, listening, operate))
    return 0


async def serve_one(build: Build, listening: socket.socket, operate: Operate | None) -> None:
    stop = asyncio.Event()
    for each in STOPPING:
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with build() as application:
        supervisor = Supervisor(failed=lambda _name: None)  # each is started again
        for name, task in application.background.items():
            supervisor.start_again(name, partial(run, task))
        if operate is not None:
            asked = partial(operate, Worker(application))
            supervisor.start_again("operations", partial(run, asked))
        _settle()
        try:
            await Server(application.gate).serve(listening, stop)
        finally:
            await supervisor.stop()


def _settle() -> None:
    """Let the garbage collector pass over what stays: to go through it would stall the splice."""
    gc.collect()
    gc.freeze()


class Worker:
    """Answers what watchers ask about one process."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        gate = self._application.gate
        match question["ask"]:
            case "ready":
                return {"reasons": self._unready()}
            case "metrics":
                counted = map(family, gate.counters.collect())
                return {"worker": os.getpid(), "families": [*counted]}
            case _:
                return {}

    def _unready(self) -> list[str]:
        reasons = []
        if not self._application.watcher.answered:
            reasons.append("the store does not answer")
        if self._application.gate.draining:
            reasons.append("this gateway stops")
        return reasons
