"""Tickets: leave to attach, once. And links that let others watch."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel import base64url, ids
from gatekeeper.kernel.audit import Actor, AuditKind, timestamp
from gatekeeper.kernel.errors import Refusal
from gatekeeper.kernel.session import OPEN, SessionStatus
from gatekeeper.terminals import errors
from gatekeeper.terminals.evidence import terminal_event
from gatekeeper.terminals.model import Mode, NewShare, Share, Ticket
from gatekeeper.terminals.protocol.ticket import TicketClaims

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.kernel.random import Random
    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import TerminalStore, TerminalUnit, Tickets
    from gatekeeper.terminals.service.seeing import Seeing

SECRET_BYTES: Final = 32
TICKET_ID_BYTES: Final = 16
MAX_NAME_CHARS: Final = 254


class AttachService:
    """The use-cases behind `/terminals/{id}/attach`, `/terminals/{id}/share` and `/shares`.

    Tickets are for the gateway at `gateway_url`; `lifetime` is how long one is good.
    """

    def __init__(
        self,
        *,
        store: TerminalStore,
        tickets: Tickets,
        issuer: str,
        gateway_url: str,
        lifetime: timedelta,
        random: Random,
        seeing: Seeing,
    ) -> None:
        self._store = store
        self._tickets = tickets
        self._issuer = issuer
        self._gateway_url = gateway_url
        self._lifetime = lifetime
        self._random = random
        self._seeing = seeing

    async def attach(
        self,
        principal: Principal,
        terminal: TerminalId,
        mode: Mode,
        *,
        origin: str | None,
        correlation_id: str,
    ) -> Ticket | Refusal:
        """Give a fresh ticket. `origin` is that of the page that asks; None: no page does."""
        async with self._store.transaction() as unit:
            found = await unit.lock(terminal)
            if found is None or not self._seeing.may_see(principal, found):
                return errors.no_such_terminal(terminal)
            if (refusal := self._seeing.refuse_mode(principal, found, mode)) is not None:
                return refusal
            return await self._issue(
                unit, principal, found, mode, origin=origin, correlation_id=correlation_id
            )

    async def share(
        self, principal: Principal, terminal: TerminalId, time: timedelta, correlation_id: str
    ) -> NewShare | Refusal:
        """Make a link to watch by. What the store keeps of its secret opens nothing."""
        async with self._store.transaction() as unit:
            found = await unit.lock(terminal)
            if found is None or not self._seeing.may_see(principal, found):
                return errors.no_such_terminal(terminal)
            if found.requester != principal.key:
                return errors.only_its_owner_shares()
            if found.status not in OPEN:
                return errors.not_ready(found.status)
            now = await unit.now()
            secret = base64url.encode(self._random.bytes(SECRET_BYTES))
            name = ids.instance_id(self._random.bytes(ids.RANDOM_BYTES))
            share = Share(
                id=f"shr_{name}",
                terminal=found.id,
                created_by=principal.key,
                expires_at=now + time,
            )
            await unit.add_share(share, _sha256(secret))
            await unit.record(
                terminal_event(
                    AuditKind.TERMINAL_SHARED,
                    found,
                    at=now,
                    actor=Actor.of(principal),
                    correlation_id=correlation_id,
                    shareId=share.id,
                    expiresAt=timestamp(share.expires_at),
                )
            )
            return NewShare(share=share, secret=secret)

    async def open_share(
        self, principal: Principal, secret: str, *, origin: str | None, correlation_id: str
    ) -> tuple[Share, Ticket] | Refusal:
        """Give a ticket to watch to whoever is signed in and has the link's secret."""
        share = await self._store.find_share(_sha256(secret))
        if share is None:
            return errors.no_such_share()
        async with self._store.transaction() as unit:
            found = await unit.lock(share.terminal)
            if found is None:
                return errors.no_such_share()
            ticket = await self._issue(
                unit,
                principal,
                found,
                Mode.READ,
                origin=origin,
                correlation_id=correlation_id,
                share=share,
            )
        return ticket if isinstance(ticket, Refusal) else (share, ticket)

    async def _issue(
        self,
        unit: TerminalUnit,
        principal: Principal,
        terminal: Terminal,
        mode: Mode,
        *,
        origin: str | None,
        correlation_id: str,
        share: Share | None = None,
    ) -> Ticket | Refusal:
        if terminal.status is not SessionStatus.READY:
            return errors.not_ready(terminal.status)
        now = await unit.now()
        claims = self._claims(
            principal, terminal, mode, origin=origin, epoch=await unit.epoch(), now=now
        )
        if share is not None:
            claims = replace(claims, until=math.floor(share.expires_at.timestamp()))
        token = await self._tickets.sign(claims)
        await unit.record(
            terminal_event(
                AuditKind.TERMINAL_TICKET_ISSUED,
                terminal,
                at=now,
                actor=Actor.of(principal),
                correlation_id=correlation_id,
                mode=mode.value,
                origin=origin,
                ticketId=claims.ticket_id,
                shareId=None if share is None else share.id,
            )
        )
        return Ticket(
            token=token,
            url=f"{self._gateway_url.rstrip('/')}/attach/{terminal.id}",
            mode=mode,
            expires_at=now + self._lifetime,
        )

    def _claims(
        self,
        principal: Principal,
        terminal: Terminal,
        mode: Mode,
        *,
        origin: str | None,
        epoch: str,
        now: datetime,
    ) -> TicketClaims:
        issued_at = math.floor(now.timestamp())
        return TicketClaims(
            issuer=self._issuer,
            subject=principal.key,
            name=(principal.email or principal.subject)[:MAX_NAME_CHARS],
            terminal=terminal.id,
            instance=terminal.instance,
            mode=mode,
            origin=origin,
            epoch=epoch,
            ticket_id=self._random.bytes(TICKET_ID_BYTES).hex(),
            issued_at=issued_at,
            expires_at=issued_at + int(self._lifetime.total_seconds()),
        )


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
