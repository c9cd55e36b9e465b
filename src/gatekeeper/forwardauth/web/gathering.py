"""All workers of a gate as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.platform.processes import gathering
from gatekeeper.platform.processes.gathering import asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.platform.processes.asking import Ask, Words


class Gathering(gathering.Gathering):
    """Also asks about decisions."""

    def __init__(self, workers: Sequence[Ask]) -> None:
        super().__init__(workers, name="passctrl")

    async def recent(self, correlation_id: str) -> Words | None:
        """Find a decision that was made a short while ago, whichever worker made it."""
        for said in await self.all({"ask": "recent", "id": correlation_id}):
            if said is not None and said["found"] is not None:
                found: Words = said["found"]
                return found
        return None

    async def explain(self, question: object) -> Words | None:
        """Have one worker explain; None when none answers."""
        for ask in self.workers:
            said = await asked(ask, {"ask": "explain", "question": question})
            if said is not None:
                return said
        return None
