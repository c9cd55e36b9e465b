"""The configuration in force is replaced as a whole, and only by one that is whole.

At start what is wrong is left out. At a reload there is a better choice: anything wrong keeps
the last good one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING

import structlog

from gatekeeper.forwardauth.adapters import sources
from gatekeeper.forwardauth.adapters.files import load
from gatekeeper.forwardauth.errors import WHOLE_FILE, ConfigurationError, Problem
from gatekeeper.platform.documents import LOOK_SECONDS, DocumentError, Looks, fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from gatekeeper.forwardauth.config.loaded import Loaded
    from gatekeeper.platform.documents import Fingerprint

log = structlog.get_logger("gatekeeper.forwardauth")


@contextlib.contextmanager
def _collected_later() -> Iterator[None]:
    """Collect no garbage while so much is made: decisions would wait for it each time anew.

    With 1,000 rules that was up to 0.2 s, several times; once is left, when all is done.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class ConfigurationWatcher:
    """Looks for changes of any file that counts, and offers each new configuration once."""

    def __init__(
        self,
        path: Path,
        *,
        environ: Mapping[str, str],
        running: Loaded,
        taken: Callable[[Loaded], Awaitable[None]],
        rejected: Callable[[tuple[Problem, ...]], Awaitable[None]],
    ) -> None:
        """`taken` puts a configuration in force; it raises `ConfigurationError` to refuse it.

        `rejected` is told why one was not taken.
        """
        self._path = path
        self._environ = environ
        self._running = running
        self._agrees = True
        """Whether what the files say is what is in force."""
        self._taken = taken
        self._rejected = rejected
        self._looks = Looks(self._fingerprint, None)

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take a changed configuration if it is whole, else keep the last good one and say so."""
        # In another thread: a network file system may hold up everything else for seconds.
        found = await asyncio.to_thread(self._looks.changed)
        if found is not None:
            with _collected_later():
                await self._take(found)

    async def _take(self, found: Fingerprint) -> None:
        try:
            loaded = await asyncio.to_thread(load, self._path, environ=self._environ)
            if not await asyncio.to_thread(self._looks.same, found):
                return
            if loaded.digest != self._running.digest or not self._agrees:
                await self._offer(loaded)
            self._agrees = True
        except Exception as error:  # noqa: BLE001  # a defect too must not end what decides well
            if not await asyncio.to_thread(self._looks.same, found):
                return
            self._agrees = False
            problems = self._problems(error)
            told = [str(problem) for problem in problems]
            log.warning("configuration rejected; the last good one stays", problems=told)
            await self._rejected(problems)
        self._looks.take(found)

    def _problems(self, error: Exception) -> tuple[Problem, ...]:
        if isinstance(error, ConfigurationError):
            return tuple(error.problems)
        # Of a defect its type alone: the text may hold anything.
        message = f"a defect of passctrl ({type(error).__name__})"
        return (Problem(place=str(self._path), key=WHOLE_FILE, message=message),)

    async def _offer(self, loaded: Loaded) -> None:
        if loaded.problems:
            raise ConfigurationError(loaded.problems)
        if loaded.configuration.server != self._running.configuration.server:
            message = "the server block has changed: restart to use this configuration"
            raise ConfigurationError(
                [Problem(place=str(self._path), key="server", message=message)]
            )
        await self._taken(loaded)
        self._running = loaded

    def _fingerprint(self) -> Fingerprint:
        server = self._running.configuration.server
        try:
            return fingerprint(
                [
                    self._path,
                    *sources.rule_files(self._path, server),
                    *sources.case_files(self._path, server),
                    *sources.template_files(self._path, server),
                    *(file for _name, file in sources.secret_files(self._path, server)),
                ]
            )
        except DocumentError:
            return ()
