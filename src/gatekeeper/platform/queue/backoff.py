"""When a failed job runs again: exponential, with full jitter.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

FIRST_SECONDS: Final = 0.2
MOST_SECONDS: Final = 30.0
"""A target that comes back is noticed within this time."""
LEAST_SECONDS: Final = 0.05


def pause(attempts: int, chance: float) -> timedelta:
    """Return the pause after the given number of attempts; `chance` is from 0 to 1."""
    ceiling = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts, 16))
    return timedelta(seconds=max(LEAST_SECONDS, ceiling * chance))
