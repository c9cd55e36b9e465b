"""The results this process keeps, a part of agent 9."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import RuleResult


class Memory:
    """Results this process keeps: bounded, the least recently used goes first.

    Time is an argument, in seconds of Unix time.
    """

    def __init__(self, max_entries: int) -> None:
        self._max = max_entries
        self._kept: OrderedDict[bytes, RuleResult] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now: float) -> RuleResult | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= now:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept

    def put(self, key: bytes, result: RuleResult, now: float) -> None:
        if result.until <= now:
            return
        self._kept[key] = result._replace(origin="memory")
        self._kept.move_to_end(key)
        while len(self._kept) > self._max:
            self._kept.popitem(last=False)

    def peek(self, key: bytes, now: float) -> RuleResult | None:
        """Return what `get` would, and leave everything as it is."""
        kept = self._kept.get(key)
        return None if kept is None or kept.until <= now else kept

    def clear(self) -> None:
        """Forget everything: the configuration is another one."""
        self._kept.clear()
