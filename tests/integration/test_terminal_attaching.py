"""Tickets and links: who gets which, what they say, and when they are over."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.terminal_world import DANA, EMIL, OLGA, World, terminal_world
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.identity import Principal
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.terminals.model import Mode, NewShare, Terminal, Ticket
from gatekeeper.terminals.protocol import ticket as protocol
from servers import binaries

S = SessionStatus
M = Mode


@pytest.fixture
async def world(store_dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    async with terminal_world(store_dsn, tmp_path) as made:
        yield made


async def attach(
    world: World,
    principal: Principal,
    terminal: Terminal,
    mode: Mode,
    origin: str | None = None,
) -> Ticket | Refusal:
    return await world.attaching.attach(
        principal, terminal.id, mode, origin=origin, correlation_id="cor_attach"
    )


async def test_a_ticket_says_who_may_attach_to_what_from_where_and_until_when(
    world: World,
) -> None:
    async with world.working():
        terminal = await world.ready()
        given = await attach(world, DANA, terminal, M.WRITE, origin="https://page")

    assert isinstance(given, Ticket)
    assert given.url == f"wss://gateway/attach/{terminal.id}"
    said = world.claims(given)
    assert said["exp"] - said["iat"] == 60
    assert {name: said[name] for name in ("iss", "aud", "sub", "sid", "ins", "mode", "origin")} == {
        "iss": "https://gk",
        "aud": protocol.AUDIENCE,
        "sub": DANA.key,
        "sid": terminal.id,
        "ins": terminal.instance,
        "mode": "write",
        "origin": "https://page",
    }
    event = (await world.evidence())[-1]
    assert event["kind"] == "terminal.ticket_issued"
    assert event["correlationId"] == "cor_attach"
    assert event["data"]["ticketId"] == said["jti"]
    assert given.token not in str(event)


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [(DANA, {M.READ, M.WRITE, M.MODERATE}), (OLGA, {M.READ, M.MODERATE}), (EMIL, set())],
)
async def test_who_gets_which_ticket(
    world: World, principal: Principal, allowed: set[Mode]
) -> None:
    async with world.working():
        terminal = await world.ready()
        given = {mode: await attach(world, principal, terminal, mode) for mode in Mode}

    assert {mode for mode, ticket in given.items() if isinstance(ticket, Ticket)} == allowed
    refused = {ticket.code for ticket in given.values() if isinstance(ticket, Refusal)}
    assert refused <= {ErrorCode.POLICY_DENIED if allowed else ErrorCode.NOT_FOUND}
    assert (await world.events()).count("terminal.ticket_issued") == len(allowed)


async def test_only_a_terminal_that_is_ready_takes_clients(world: World) -> None:
    terminal = await world.create()
    early = await attach(world, DANA, terminal, M.READ)
    async with world.working():
        ready = await world.reach(terminal.id, S.READY)
        given = await attach(world, DANA, ready, M.READ)
        await world.service.stop(DANA, terminal.id, "c")
        late = await attach(world, DANA, terminal, M.READ)
        await world.reach(terminal.id, S.CLEANED)

    assert isinstance(given, Ticket)
    for refused in (early, late):
        assert isinstance(refused, Refusal)
        assert refused.code is ErrorCode.STATE_CONFLICT
    assert await world.claimed(world.claims(given)) == "over"


async def test_whoever_is_signed_in_and_has_the_link_may_watch_until_it_is_over(
    world: World,
) -> None:
    async with world.working():
        terminal = await world.ready()
        theirs = await world.attaching.share(EMIL, terminal.id, timedelta(hours=1), "c")
        seen = await world.attaching.share(OLGA, terminal.id, timedelta(hours=1), "c")
        share = await world.attaching.share(DANA, terminal.id, timedelta(seconds=1), "c")
        assert isinstance(share, NewShare)

        async def opened(secret: str) -> Any:
            return await world.attaching.open_share(
                EMIL, secret, origin=None, correlation_id="cor_open"
            )

        given = await opened(share.secret)
        wrong = await opened("x" * 43)
        await asyncio.sleep(1.1)
        over = await opened(share.secret)

    assert isinstance(theirs, Refusal)
    assert isinstance(seen, Refusal)
    assert (theirs.code, seen.code) == (ErrorCode.NOT_FOUND, ErrorCode.POLICY_DENIED)
    said = world.claims(given[1])
    assert (said["mode"], said["sub"]) == ("read", EMIL.key)
    assert said["until"] == int(share.share.expires_at.timestamp())
    assert {wrong.code, over.code} == {ErrorCode.NOT_FOUND}
    assert wrong.detail == over.detail
    stored = await world.rows("SELECT secret_sha256 FROM gatekeeper.terminal_share")
    assert stored == [(hashlib.sha256(share.secret.encode()).hexdigest(),)]
    assert (await world.events())[2:] == ["terminal.shared", "terminal.ticket_issued"]
    assert share.secret not in str(await world.evidence())


async def test_used_tickets_are_forgotten_when_nobody_can_use_them_again(world: World) -> None:
    async with world.working():
        terminal = await world.ready()
        given = await attach(world, DANA, terminal, M.READ)
        assert isinstance(given, Ticket)
        said = world.claims(given)
        await world.claimed(said)
        early = await world.store.forget_used_tickets()
        await world.rows(
            "UPDATE gatekeeper.token_jti SET expires_at = now() - interval '6 min'"
            " WHERE jti <> 'epoch' RETURNING 1"
        )
        late = await world.store.forget_used_tickets()
        again = await attach(world, DANA, terminal, M.READ)

    assert (early, late) == (0, 1)
    assert isinstance(again, Ticket)
    assert world.claims(again)["epoch"] == said["epoch"]


async def test_no_ticket_outlives_a_crash_of_the_store_used_or_not(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data", binaries(18))
    await server.start()
    try:
        await migrate(Secret(server.dsn()))
        async with terminal_world(server.dsn(), tmp_path) as world:
            async with world.working():
                terminal = await world.ready()
            used, unused = [await attach(world, DANA, terminal, M.READ) for _ in range(2)]
            assert isinstance(used, Ticket)
            assert isinstance(unused, Ticket)
            assert await world.claimed(world.claims(used)) == "ok"
            before = world.claims(used), world.claims(unused)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.stop()
        await server.start()
        async with terminal_world(server.dsn(), tmp_path) as world:
            after = [await world.claimed(said) for said in before]
            fresh = await attach(world, DANA, terminal, M.READ)
            assert isinstance(fresh, Ticket)
            later = [await world.claimed(said) for said in (*before, world.claims(fresh))]
    finally:
        await server.stop()

    assert after == ["epoch", "epoch"]
    assert later == ["epoch", "epoch", "ok"]
