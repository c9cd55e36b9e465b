"""Tickets: leave to attach to one launch of one terminal, once, within a minute.

A ticket is a JWT (RFC 7519) signed with RS256. It travels as the second entry of
`Sec-WebSocket-Protocol`, `ticket.<jwt>`, behind the protocol that is to be spoken; a gateway
never echoes it, logs it or passes it on. Its `epoch` is the store's: a database that crashed
has forgotten which tickets were used, and takes none from before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gatekeeper.terminals.model import Mode

AUDIENCE: Final = "gk-terminal"
ALGORITHM: Final = "RS256"
TYPE: Final = "gatekeeper-ticket+jwt"
"""Explicit typing (RFC 8725 section 3.11): no other token of ours is taken for a ticket."""
LIFETIME: Final = timedelta(seconds=60)
MAX_LIFETIME: Final = timedelta(minutes=10)
LEEWAY: Final = timedelta(seconds=5)
MAX_TICKET_CHARS: Final = 4_096
ENTRY: Final = "ticket."
"""What the entry of `Sec-WebSocket-Protocol` that carries a ticket begins with."""
JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketClaims:
    """What a ticket says; the names in the JWT stand behind each.

    `origin` is the page's, compared with the `Origin` header; None (absent) is for programs,
    whose requests then must have no `Origin`.
    """

    issuer: str  # iss
    subject: str  # sub: the principal's key
    name: str  # name: how others see who it is
    terminal: str  # sid
    instance: str  # ins
    mode: Mode  # mode
    origin: str | None  # origin
    epoch: str  # epoch
    ticket_id: str  # jti
    issued_at: int  # iat: seconds
    expires_at: int  # exp: seconds
    until: int | None = None  # until: seconds; whoever attached with it goes then (None: no limit)
