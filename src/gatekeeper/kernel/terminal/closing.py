"""Why a terminal's socket was closed: a code (RFC 6455 section 7.4.2) and a few words.

The words of `ENDED` are `exit N` or `signal N`, or an `Ending`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

MAX_REASON_BYTES: Final = 123
"""What fits into a close frame after the code (RFC 6455 section 5.5)."""


class CloseCode(IntEnum):
    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    TOO_LARGE = 1009
    INTERNAL = 1011
    DRAINING = 1012
    """This gateway or runner stops; attach again."""
    TRY_AGAIN = 1013
    ENDED = 4000
    """The command ended; there is nothing to attach to any more."""
    REVOKED = 4401
    FORBIDDEN = 4403
    """A client did what its mode does not allow."""
    EXPIRED = 4408
    TAKEN_OVER = 4409
    """Somebody else holds the input now; only clients without leases (`tty`) are closed."""
    IDLE = 4410
    RUNNER_LOST = 4502


def reason_bytes(reason: str) -> bytes:
    """Cut a reason to what a close frame can carry, never within a character."""
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
