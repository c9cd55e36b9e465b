"""The policy in force. It is replaced as a whole, and only by one that is whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.platform.documents import LOOK_SECONDS, Looks, fingerprint
from gatekeeper.platform.policy.documents import PolicyError
from gatekeeper.platform.policy.files import load_policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gatekeeper.kernel.policy import Policy
    from gatekeeper.platform.documents import Fingerprint

log = structlog.get_logger("gatekeeper.policy")

FIRST_GENERATION: Final = 1


class PolicyHolder:
    """Loads a policy, and keeps looking for a better one."""

    def __init__(
        self,
        path: Path,
        *,
        loaded: Callable[[int], Awaitable[None]],
        rejected: Callable[[tuple[str, ...]], Awaitable[None]],
    ) -> None:
        """Raises `PolicyError` when there is no whole policy to begin with.

        `loaded` is told the generation of each new policy, `rejected` why one was not taken.
        """
        self._path = path
        self._loaded = loaded
        self._rejected = rejected
        self._looks = Looks(self._fingerprint, self._fingerprint())
        self._policy = load_policy(path)
        self.generation = FIRST_GENERATION

    def current(self) -> Policy:
        return self._policy

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take a changed policy if it is whole, else keep the last good one and say so.

        It is in force once the evidence has it: when that cannot be written, nothing
        changes and the next look tries again.
        """
        found = self._looks.changed()
        if found is None:
            return
        try:
            await self._take(found)
        except GatekeeperError as error:
            log.warning("policy not taken yet: the evidence cannot be written", code=error.code)

    async def _take(self, found: Fingerprint) -> None:
        try:
            # Another thread, because a large folder would hold up everything else for seconds.
            policy = await asyncio.to_thread(load_policy, self._path)
        except PolicyError as error:
            log.warning("policy rejected; the last good one stays", problems=error.problems)
            await self._rejected(error.problems)
            self._looks.take(found)
            return
        if not self._looks.same(found):
            return
        await self._loaded(self.generation + 1)
        self._policy = policy
        self.generation += 1
        self._looks.take(found)
        log.info("policy loaded", generation=self.generation)

    def _fingerprint(self) -> Fingerprint:
        try:
            return fingerprint(
                sorted(self._path.iterdir()) if self._path.is_dir() else [self._path]
            )
        except OSError:
            return ()
