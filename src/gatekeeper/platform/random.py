"""The system's randomness: the one place that asks for it."""

from __future__ import annotations

import secrets


class SystemRandom:
    """The operating system's random source."""

    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)
