"""The life of a session: one table of legal moves, for every plane that has sessions.

    requested ─▶ denied
        │ ─────▶ awaiting_approval ─▶ denied | expired
        ▼
     pending ──▶ ready ──▶ expired ─┐
        │          ├─────▶ revoked ─┤
        │          └─────▶ ended   ─┼─▶ cleaned
        ├─▶ revoked (undone late)  ─┤
        └─▶ failed ─────────────────┘

What a caller may meet and what then holds:

* revoke while pending: `pending → revoked`; the agent's late result is undone by
  the same clean-up that ends every session;
* revoke twice, or after the end: nothing changes, the answer is the same;
* a result after expiry or revocation: refused here, so the login is undone;
* `ended` is a terminal's alone: its command came to its end by itself;
* `cleaned` means proven gone at the target, never "asked for": while the target
  is unreachable the session stays `expired` or `revoked` and clean-up is retried.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class SessionStatus(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    DENIED = "denied"
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    ENDED = "ended"
    REVOKED = "revoked"
    EXPIRED = "expired"
    CLEANED = "cleaned"


_S = SessionStatus

TRANSITIONS: Final[Mapping[SessionStatus, frozenset[SessionStatus]]] = MappingProxyType(
    {
        _S.AWAITING_APPROVAL: frozenset({_S.PENDING, _S.DENIED, _S.EXPIRED}),
        _S.DENIED: frozenset(),
        _S.PENDING: frozenset({_S.READY, _S.FAILED, _S.REVOKED, _S.EXPIRED}),
        _S.READY: frozenset({_S.ENDED, _S.REVOKED, _S.EXPIRED}),
        _S.FAILED: frozenset({_S.CLEANED}),
        _S.ENDED: frozenset({_S.CLEANED}),
        _S.REVOKED: frozenset({_S.CLEANED}),
        _S.EXPIRED: frozenset({_S.CLEANED}),
        _S.CLEANED: frozenset(),
    }
)

OPEN: Final = frozenset({_S.AWAITING_APPROVAL, _S.PENDING, _S.READY})
"""The holder has access, or may still get it: these count against limits."""

ENDING: Final = frozenset({_S.FAILED, _S.ENDED, _S.REVOKED, _S.EXPIRED})
"""Access was ended, and the proof from the target is outstanding."""


def may_move(current: SessionStatus, to: SessionStatus) -> bool:
    """Tell whether the move is in the table. Every other move is refused."""
    return to in TRANSITIONS[current]
