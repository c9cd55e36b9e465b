"""Using a ticket up: one statement, which says at the same time what it was good for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from gatekeeper.kernel.errors import ErrorCode
from gatekeeper.terminals.protocol.handshake import Refused, ticket_refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.platform.postgres.pool import Pool
    from gatekeeper.terminals.protocol.ticket import TicketClaims

RETRY_SECONDS: Final = 1.0
"""Until a terminal that is being started may be there."""

Outcome = Literal["ok", "unknown", "instance", "expired", "not_ready", "over", "epoch", "used"]
"""What `gatekeeper.claim_ticket` says. Nothing is used up unless it is `ok`."""

# Both times are the store's clock; what is left until the terminal's end is told as seconds, so
# that no two clocks are compared.
_CLAIM: Final = """
SELECT outcome, EXTRACT(EPOCH FROM expires_at - clock_timestamp())::float8
FROM gatekeeper.claim_ticket(%s, %s, %s, %s, %s)
"""

NOT_READY: Final = Refused(
    status=503,
    code=ErrorCode.SERVICE_UNAVAILABLE,
    detail="the terminal is being started",
    retry_after=RETRY_SECONDS,
)
UNKNOWN: Final = Refused(status=404, code=ErrorCode.NOT_FOUND, detail="there is no such terminal")
OVER: Final = Refused(status=409, code=ErrorCode.STATE_CONFLICT, detail="the terminal has ended")
OTHER_INSTANCE: Final = Refused(
    status=409,
    code=ErrorCode.STATE_CONFLICT,
    detail="the ticket is for another launch of this terminal",
)
REFUSALS: Final[Mapping[str, Refused]] = {
    "unknown": UNKNOWN,
    "instance": OTHER_INSTANCE,
    "expired": ticket_refused("the ticket has expired"),
    "not_ready": NOT_READY,
    "over": OVER,
    "epoch": ticket_refused("the ticket is from before the store was restored"),
    "used": ticket_refused("the ticket was used"),
}


class Claimed(NamedTuple):
    """A ticket was used up for a terminal with this much time left."""

    seconds_left: float


class Claims:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, ticket: TicketClaims) -> Claimed | Refused:
        """Use a ticket up, or say why it is not good any more.

        Raises `UnavailableError` when the store does not answer: it may be used up then.
        """
        expires_at = datetime.fromtimestamp(ticket.expires_at, UTC)
        values = (ticket.ticket_id, ticket.epoch, ticket.terminal, ticket.instance, expires_at)
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_CLAIM, values)).fetchone()
        outcome, left = cast("tuple[Outcome, float | None]", row)
        if outcome != "ok":
            return REFUSALS[outcome]
        return Claimed(float("inf") if left is None else left)
