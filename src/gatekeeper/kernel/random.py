"""The randomness port."""

from __future__ import annotations

from typing import Protocol


class Random(Protocol):
    """Gives bytes nobody can guess."""

    def bytes(self, count: int) -> bytes: ...
