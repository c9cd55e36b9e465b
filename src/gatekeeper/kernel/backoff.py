"""When what failed is tried again: exponential, with full jitter.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatekeeper.kernel.random import Random

LEAST_SECONDS: Final = 0.05
"""Full jitter may draw almost nothing; a failure is never tried again at once."""
_DRAW_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses that double with each failure up to a ceiling, both in seconds."""

    first: float = 0.2
    most: float = 30.0

    def pause(self, failures: int, random: Random) -> float:
        """Return how many seconds to wait after the given number (1 or more) of failures."""
        ceiling = min(self.most, self.first * 2.0 ** min(failures - 1, 64))
        return max(LEAST_SECONDS, ceiling * _draw(random))


def _draw(random: Random) -> float:
    """Draw evenly from [0, 1)."""
    return int.from_bytes(random.bytes(_DRAW_BYTES), "big") / 2.0 ** (8 * _DRAW_BYTES)
