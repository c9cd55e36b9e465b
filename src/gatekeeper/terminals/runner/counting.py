"""What a runner counts of terminals that ended."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatekeeper.terminals.model import Ended


class Counters:
    """Of terminals that have ended."""

    def __init__(self) -> None:
        self.launches = 0
        self.ends: dict[str, int] = defaultdict(int)
        self.output_bytes = 0
        self.recorded_bytes = 0

    def ended(self, ended: Ended) -> None:
        self.ends[ended.ending.value] += 1
        self.output_bytes += ended.output_bytes
        self.recorded_bytes += ended.recording_bytes
