"""Letting a client in: every check, in the order in which a refusal costs the client least.

The ticket is used up last. A runner that is not there, or a store that does not answer, costs
nobody a ticket.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, UnavailableError
from gatekeeper.terminals.errors import RunnerRejectedError, RunnerUnreachableError
from gatekeeper.terminals.gateway import upstream
from gatekeeper.terminals.gateway.claims import NOT_READY, OTHER_INSTANCE, OVER, UNKNOWN
from gatekeeper.terminals.protocol import attachment
from gatekeeper.terminals.protocol.attachment import Attachment
from gatekeeper.terminals.protocol.handshake import Refused, Upgrade, ticket_refused

if TYPE_CHECKING:
    import asyncio

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.terminals.gateway.claims import Claims
    from gatekeeper.terminals.gateway.directory import Directory
    from gatekeeper.terminals.gateway.tickets import TicketVerifier
    from gatekeeper.terminals.protocol.ticket import TicketClaims

RETRY_SECONDS: Final = 2.0
NONCE_BYTES: Final = 16
NO_ANSWER: Final = Refused(
    status=503,
    code=ErrorCode.SERVICE_UNAVAILABLE,
    detail="a neighbour does not answer",
    retry_after=RETRY_SECONDS,
)


class Admitted(NamedTuple):
    """A client that may be joined to this runner, for so long."""

    runner: asyncio.Transport
    rest: bytes
    seconds_left: float


class Admission:
    def __init__(
        self,
        *,
        tickets: TicketVerifier,
        directory: Directory,
        claims: Claims,
        attach_key: bytes,
        clock: Clock,
        random: Random,
    ) -> None:
        self._tickets = tickets
        self._directory = directory
        self._claims = claims
        self._attach_key = attach_key
        self._clock = clock
        self._random = random

    async def admit(self, upgrade: Upgrade) -> Admitted | Refused:
        """Let a client in, or say why not. Whoever is let in has a runner that waits."""
        try:
            return await self._admit(upgrade)
        except UnavailableError:
            return NO_ANSWER
        except RunnerUnreachableError as error:
            self._directory.forget(upgrade.terminal)
            return _of(error, 503, RETRY_SECONDS)
        except RunnerRejectedError as error:
            self._directory.forget(upgrade.terminal)
            return _of(error, 502, None)

    async def _admit(self, upgrade: Upgrade) -> Admitted | Refused:
        ticket = await self._tickets.verify(upgrade.unverified_ticket)
        if isinstance(ticket, Refused):
            return ticket
        if ticket.terminal != upgrade.terminal:
            return ticket_refused("the ticket is for another terminal")
        if ticket.origin != upgrade.origin:
            return Refused(
                status=403,
                code=ErrorCode.POLICY_DENIED,
                detail="the ticket is for another origin",
            )
        place = await self._directory.find(ticket.terminal)
        if place is None:
            return UNKNOWN
        if place.instance != ticket.instance:
            return OTHER_INSTANCE
        if place.status == "pending":
            return NOT_READY
        if place.status != "ready" or place.address is None:
            return OVER
        return await self._connect(upgrade, ticket, place.address)

    async def _connect(
        self, upgrade: Upgrade, ticket: TicketClaims, address: str
    ) -> Admitted | Refused:
        runner, rest = await upstream.connect(
            address,
            terminal=ticket.terminal,
            protocol=upgrade.protocol,
            sealed=self._seal(ticket),
            random=self._random,
        )
        try:
            claimed = await self._claims.claim(ticket)
        except BaseException:
            runner.abort()
            raise
        if isinstance(claimed, Refused):
            self._directory.forget(ticket.terminal)
            runner.abort()
            return claimed
        return Admitted(runner, rest, min(claimed.seconds_left, self._seconds_left(ticket)))

    def _seconds_left(self, ticket: TicketClaims) -> float:
        """Return how long whoever has this ticket may stay."""
        if ticket.until is None:
            return math.inf
        return ticket.until - self._clock.now().timestamp()

    def _seal(self, ticket: TicketClaims) -> str:
        """Say to the runner who it is. It takes this once, and only for a short time."""
        said = Attachment(
            terminal=ticket.terminal,
            instance=ticket.instance,
            mode=ticket.mode,
            subject=ticket.subject,
            name=ticket.name,
            nonce=self._random.bytes(NONCE_BYTES).hex(),
            at=int(self._clock.now().timestamp()),
        )
        return attachment.seal(said, self._attach_key)


def _of(error: GatekeeperError, status: int, retry_after: float | None) -> Refused:
    return Refused(status=status, code=error.code, detail=error.detail, retry_after=retry_after)
