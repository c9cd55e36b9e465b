"""The clock port. Rules take `now` as an argument; shells ask a `Clock`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime


class Clock(Protocol):
    """Tells the time, always with a zone (UTC)."""

    def now(self) -> datetime: ...
