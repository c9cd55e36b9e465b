"""Ends that the store tells of: heard at once by LISTEN, and looked for each second anyway.

While the store does not answer, whoever is joined stays so until the deadline that was known
when they came: it is kept here, and needs no store. The runner is told of an end by its own way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.platform.tasks import within
from gatekeeper.terminals.model import Ending

if TYPE_CHECKING:
    from gatekeeper.terminals.gateway.directory import Directory
    from gatekeeper.terminals.gateway.sessions import Sessions

log = structlog.get_logger("gatekeeper.gateway")

CHANNEL: Final = "gatekeeper_terminal"
POLL_SECONDS: Final = 1.0
OWN_CLOSE_SECONDS: Final = 1.0
"""In which a runner says itself how a terminal ended."""
COLLECT_SECONDS: Final = 15.0
"""In which a client may still be sent what a command wrote before it ended; a runner then closes,
with the exit code, by itself."""

_AT_ONCE: Final = {
    Ending.REVOKED.value: CloseCode.REVOKED,
    Ending.EXPIRED.value: CloseCode.EXPIRED,
}
_SOON: Final = {
    Ending.IDLE.value: CloseCode.IDLE,
    Ending.RUNNER_LOST.value: CloseCode.RUNNER_LOST,
}
"""By ending; the first two are a status as well."""


class Watcher:
    def __init__(self, directory: Directory, sessions: Sessions) -> None:
        self._directory = directory
        self._sessions = sessions
        self._heard = asyncio.Event()
        self._named: set[str] = set()
        self._all = True
        self.answered = False
        """Whether the store answered the last time."""

    def heard(self, terminal: str | None) -> None:
        """Take a notification; None: some may have been missed."""
        if terminal is None:
            self._all = True
        else:
            self._directory.forget(terminal)
            if not self._sessions.of(terminal):
                return
            self._named.add(terminal)
        self._heard.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        next_poll = loop.time()
        while True:
            await within(self._heard, max(next_poll - loop.time(), 0.0))
            self._heard.clear()
            if loop.time() >= next_poll:
                self._all = True
                next_poll = loop.time() + POLL_SECONDS
            await self.look()

    async def look(self) -> None:
        """Ask about those that were named, or about all, and cut what is over."""
        everything, self._all = self._all, False
        named, self._named = self._named, set()
        asked = self._sessions.terminals() if everything else list(named)
        try:
            for terminal, why in await self._directory.ended(asked):
                self._cut(terminal, why)
            self.answered = True
        except UnavailableError as error:
            if self.answered:
                log.warning("the store does not answer", error=error.detail)
            self.answered = False

    def _cut(self, terminal: str, why: str) -> None:
        for session in self._sessions.of(terminal):
            if (code := _AT_ONCE.get(why)) is not None:
                session.cut(code, why)
            elif (code := _SOON.get(why)) is not None:
                session.cut_after(OWN_CLOSE_SECONDS, code, why)
            else:
                session.cut_after(COLLECT_SECONDS, CloseCode.ENDED, "ended")
