"""A gateway whose store is a dictionary: what is left of a set-up without the database.

`python -m benchmarks.gateway.stand_in CONFIG ADDRESS`
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gatekeeper.bootstrap import load_settings
from gatekeeper.bootstrap.terminals import gateway
from gatekeeper.terminals.gateway.claims import Claimed, Claims
from gatekeeper.terminals.gateway.directory import Directory, Place
from gatekeeper.terminals.gateway.workers import serve
from gatekeeper.terminals.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gatekeeper.terminals.gateway.worker import Application
    from gatekeeper.terminals.protocol.ticket import TicketClaims

INSTANCE = "a" * 20


@asynccontextmanager
async def application(config: Path, address: str) -> AsyncIterator[Application]:
    used: set[str] = set()

    async def find(_self: Directory, _terminal: str) -> Place:
        return Place(INSTANCE, address, "ready")

    async def claim(_self: Claims, ticket: TicketClaims) -> Claimed:
        used.add(ticket.ticket_id)
        return Claimed(3_600.0)

    Directory.find = find  # type: ignore[assignment,method-assign]
    Claims.claim = claim  # type: ignore[assignment,method-assign]
    async with gateway.application(config) as wired:
        yield wired._replace(background={})


if __name__ == "__main__":
    settings = load_settings(GatewaySettings, Path(sys.argv[1]))
    serve(
        partial(application, Path(sys.argv[1]), sys.argv[2]),
        listen=(settings.listen_host, settings.listen_port),
        processes=1,
        operations=None,
    )
