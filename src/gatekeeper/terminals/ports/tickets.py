"""The keys of tickets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gatekeeper.terminals.protocol.ticket import TicketClaims


class Tickets(Protocol):
    """Signs tickets (RS256), and publishes the keys. A key may live in a file or in a KMS."""

    async def sign(self, claims: TicketClaims) -> str: ...
