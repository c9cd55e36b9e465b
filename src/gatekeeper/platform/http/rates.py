"""How often each caller may call: token buckets in this process's memory.

They bound the load on this process, not access: each replica has its own, and a
restart fills them. What the policy promises (`requestsPerMinute`) is counted in the store.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import ErrorCode, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CALLERS: Final = 10_000
"""Beyond this the caller who was silent for longest is forgotten, and has a full bucket again."""


class CallRates:
    """A bucket for each caller, as large as what it may do in a minute."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, per_minute: int) -> float:
        """Count a call. Returns 0.0, or how many seconds to wait for the next."""
        now = self._now()
        left, at = self._buckets.pop(caller, (float(per_minute), now))
        left = min(per_minute, left + (now - at) * per_minute / 60)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / per_minute
        self._buckets[caller] = (left if wait else left - 1, now)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        return wait

    def wait(self, caller: str, per_minute: int) -> float:
        """Tell how many seconds to wait for the next call, without counting one."""
        left, at = self._buckets.get(caller, (float(per_minute), self._now()))
        left += (self._now() - at) * per_minute / 60
        return 0.0 if left >= 1 else (1 - left) * 60 / per_minute

    def refuse(self, caller: str, per_minute: int) -> Refusal | None:
        """Count a call; return why it is one too many."""
        if not (wait := self.take(caller, per_minute)):
            return None
        return Refusal(
            code=ErrorCode.RATE_LIMIT_EXCEEDED,
            detail=f"more than {per_minute} calls a minute",
            retry_after=wait,
        )
