"""The keys that tickets are signed with, in the control plane's folder of keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gatekeeper.platform.clock import SystemClock
from gatekeeper.terminals.adapters.tickets import TicketKeys

if TYPE_CHECKING:
    from pathlib import Path

TICKET_KEYS: Final = "tickets"


def ticket_keys(key_folder: Path) -> TicketKeys:
    """Load the keys of tickets; make the first one where there is none.

    They are dated by this machine's clock: the store's is not read yet when the first is made.
    """
    keys = TicketKeys(key_folder / TICKET_KEYS, clock=SystemClock())
    keys.begin()
    return keys


def rotate_ticket_keys(key_folder: Path) -> datetime:
    """Make the next key, unless one waits already; return from when it signs."""
    return datetime.fromtimestamp(ticket_keys(key_folder).rotate(), UTC)
