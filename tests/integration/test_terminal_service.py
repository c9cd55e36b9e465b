"""The use-cases of terminals on the real store, queue and evidence, with a runner in memory."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from fakes.terminal_world import (
    DANA,
    World,
    terminal_world,
)
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals.model import (
    Ending,
    Mode,
    Stage,
    Terminal,
    Ticket,
)

S = SessionStatus


@pytest.fixture
async def world(store_dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    async with terminal_world(store_dsn, tmp_path) as made:
        yield made


async def attached(world: World, terminal: Terminal, mode: Mode = Mode.WRITE) -> Ticket:
    ticket = await world.attaching.attach(
        DANA, terminal.id, mode, origin=None, correlation_id="cor_a"
    )
    assert isinstance(ticket, Ticket), ticket
    return ticket


def claims(world: World, ticket: Ticket) -> dict[str, Any]:
    keys = KeySet.import_key_set({"keys": world.tickets.jwks()})
    return jwt.decode(ticket.token, keys, algorithms=["RS256"]).claims


async def claimed(world: World, said: dict[str, Any]) -> str:
    """Use a ticket up, as a gateway does."""
    async with world.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT outcome FROM gatekeeper.claim_ticket(%s, %s, %s, %s, to_timestamp(%s))",
            (said["jti"], said["epoch"], said["sid"], said["ins"], said["exp"]),
        )
        row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


async def test_a_terminal_from_request_to_proof(world: World) -> None:
    async with world.working():
        terminal = await world.ready(command=("/bin/sh",), ttl=timedelta(minutes=5))
        said = claims(world, await attached(world, terminal))
        used = [await claimed(world, said), await claimed(world, said)]
        await world.service.stop(DANA, terminal.id, "cor_stop")
        cleaned = await world.reach(terminal.id, S.CLEANED)

    assert terminal.expires_at == terminal.stages[Stage.SCHEDULED] + timedelta(minutes=5)
    assert terminal.sandbox == "none"
    assert used == ["ok", "used"]
    assert cleaned.ended is not None
    assert cleaned.ended.ending is Ending.REVOKED
    assert cleaned.ended.output_bytes == 7
    assert world.launcher.live == {}
    assert await world.events() == [
        "terminal.created",
        "terminal.ready",
        "terminal.ticket_issued",
        "terminal.revoked",
        "terminal.cleaned",
    ]
