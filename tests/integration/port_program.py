"""Serves the decision port in a process of its own: `port_program.py ADDRESS PORT WORKERS`.

ADDRESS is a path when PORT is 0. The target of a request says what is decided:

    /allow    at once            /pid     which worker this is
    /slow     never, until the client is gone; then the file named by x-note is made
    /wait     after a while
    both make the file with `.begun` at its end when they begin
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gatekeeper.forwardauth.config.server import Listen
from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.web.worker import Application
from gatekeeper.forwardauth.web.workers import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

WAIT_SECONDS = 0.5


def decide(raw: RawRequest) -> Reply | Awaitable[Reply]:
    if raw.target == b"/allow":
        return Reply(200, (), b"")
    if raw.target == b"/pid":
        return Reply(200, (("x-pid", str(os.getpid())), ("x-peer", raw.peer)), b"")
    if raw.target == b"/slow":
        return _never(_note(raw))
    if raw.target == b"/wait":
        return _later(_note(raw))
    msg = "no such decision"
    raise LookupError(msg)


def _note(raw: RawRequest) -> Path:
    return Path(os.fsdecode(dict(raw.headers)[b"x-note"]))


async def _later(note: Path) -> Reply:
    _leave(note.with_suffix(".begun"))
    await asyncio.sleep(WAIT_SECONDS)
    return Reply(200, (), b"")


async def _never(note: Path) -> Reply:
    _leave(note.with_suffix(".begun"))
    try:
        await asyncio.Event().wait()
    finally:
        _leave(note)
    raise AssertionError


def _leave(note: Path) -> None:
    note.touch()


@asynccontextmanager
async def build() -> AsyncIterator[Application]:
    yield Application(decide, background=_background)


async def _background() -> None:
    """Run beside until a file says to fail."""
    failing = os.environ.get("PORT_PROGRAM_FAILS_WHEN", "")
    while not os.access(failing, os.F_OK):
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    address, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    where = {"address": address, "port": port} if port else {"unixSocket": address}
    sys.exit(serve(build, listen=Listen.model_validate(where), workers=workers))
