"""A gateway between honest clients and honest runners: who is let in, and how it ends."""

import asyncio
import gc
import json
import time
from typing import Any
from unittest.mock import patch

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from factories.gateways import (
    KEY,
    Rig,
    claims,
    new_instance,
    new_terminal,
    served,
    sign,
    switched,
)
from factories.websocket_frames import frame
from gatekeeper.terminals.gateway import watching
from gatekeeper.terminals.protocol import attachment
from gatekeeper.terminals.protocol.http import HeadReader


async def refusal(here: Rig, terminal: str, ticket: str, **options: Any) -> tuple[int, str]:
    """Attach in vain; return the status and the problem's code."""
    with pytest.raises(InvalidStatus) as refused:
        await here.attach(terminal, ticket, **options)
    response = refused.value.response
    problem = json.loads(response.body)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == response.status_code
    assert problem["correlationId"].startswith("cor_")
    assert ("Retry-After" in response.headers) is problem["retryable"]
    return response.status_code, problem["code"]


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Read until the end; return the close's code and reason."""
    with pytest.raises(ConnectionClosed) as end:
        while True:
            await client.recv()
    assert end.value.rcvd is not None, "reset, without a close"
    return end.value.rcvd.code, end.value.rcvd.reason


@served()
async def test_bytes_go_both_ways_as_they_are(here: Rig) -> None:
    address, seen = await here.runner()
    client, _ = await here.open(address)
    assert client.subprotocol == "gk.term.v1"
    for message in (b"\x00ls\n", "{}", b"x" * 100_000, b""):
        await client.send(message)
        assert await client.recv() == message
    request = seen[0].request
    assert request is not None
    # Nothing of the client's request but the protocol; who it is says the signed header alone.
    assert set(request.headers) == {
        "host", "upgrade", "connection", "sec-websocket-version", "sec-websocket-key",
        "sec-websocket-protocol", "gatekeeper-attach",
    }  # fmt: skip
    assert request.headers["Sec-WebSocket-Protocol"] == "gk.term.v1"


@served()
async def test_the_runner_is_told_who_it_is_in_a_header_only_a_gateway_can_write(
    here: Rig,
) -> None:
    address, seen = await here.runner()
    _, terminal = await here.open(address, mode="read", sub="eve", name="Eve É")
    request = seen[0].request
    assert request is not None
    sealed = request.headers[attachment.HEADER]
    from gatekeeper.bootstrap.terminals.attach_key import attach_key  # noqa: PLC0415

    key = attach_key(here.folder / "attach.key")
    said = attachment.read(sealed, key, now=time.time())  # noqa: TID251
    assert isinstance(said, attachment.Attachment)
    assert (said.terminal, said.mode, said.subject, said.name) == (terminal, "read", "eve", "Eve É")


@served()
async def test_a_ticket_lets_one_in_of_twenty_at_once(here: Rig) -> None:
    address, _ = await here.runner()
    terminal, instance = here.store.add(address)
    ticket = sign(claims(terminal, instance))

    async def attach() -> ClientConnection | tuple[int, str]:
        try:
            return await here.attach(terminal, ticket)
        except InvalidStatus as refused:
            return refused.response.status_code, json.loads(refused.response.body)["code"]

    answers = await asyncio.gather(*(attach() for _ in range(20)))
    won = [one for one in answers if isinstance(one, ClientConnection)]
    assert len(won) == 1
    assert [one for one in answers if isinstance(one, tuple)] == [(401, "TICKET_REFUSED")] * 19
    await won[0].send(b"still here")
    assert await won[0].recv() == b"still here"
    await won[0].close()
    assert here.store.used() == 1


@served()
async def test_what_is_refused_has_a_status_and_a_problem_and_uses_no_ticket_up(here: Rig) -> None:
    address, _ = await here.runner()
    terminal, instance = here.store.add(address)
    pending, pending_instance = here.store.add(None, status="pending")
    ended, ended_instance = here.store.add(address, status="ended")
    over, over_instance = here.store.add(address, seconds=-1)
    unknown = new_terminal()

    def ticket(**changes: Any) -> str:
        return sign(claims(terminal, instance, **changes))

    refused = [
        (terminal, ticket(exp=1), {}, (401, "TICKET_REFUSED")),
        (terminal, ticket(epoch="another"), {}, (401, "TICKET_REFUSED")),
        (terminal, "x.y.z", {}, (401, "TICKET_REFUSED")),
        (pending, ticket(), {}, (401, "TICKET_REFUSED")),
        (terminal, ticket(origin="https://a.example"), {}, (403, "POLICY_DENIED")),
        (terminal, ticket(), {"origin": "https://a.example"}, (403, "POLICY_DENIED")),
        (
            terminal, ticket(origin="https://a.example"), {"origin": "https://b.example"},
            (403, "POLICY_DENIED"),
        ),
        (unknown, sign(claims(unknown, instance)), {}, (404, "NOT_FOUND")),
        ("trm_x", ticket(), {}, (404, "NOT_FOUND")),
        (terminal, ticket(ins=new_instance()), {}, (409, "STATE_CONFLICT")),
        (ended, sign(claims(ended, ended_instance)), {}, (409, "STATE_CONFLICT")),
        (over, sign(claims(over, over_instance)), {}, (409, "STATE_CONFLICT")),
        (pending, sign(claims(pending, pending_instance)), {}, (503, "SERVICE_UNAVAILABLE")),
    ]  # fmt: skip
    for place, given, options, expected in refused:
        assert await refusal(here, place, given, **options) == expected
    assert here.store.used() == 0
    assert here.application.gate.counters.connects["TICKET_REFUSED"] == 4
    good = ticket(origin="https://a.example")
    async with here.attach(terminal, good, origin="https://a.example"):
        assert here.store.used() == 1
    assert await refusal(here, terminal, good, origin="https://a.example") == (
        401,
        "TICKET_REFUSED",
    )


@served()
async def test_a_runner_that_is_not_there_yet_costs_no_ticket(here: Rig) -> None:
    path = here.folder / "later.sock"
    terminal, instance = here.store.add(f"unix:{path}")
    ticket = sign(claims(terminal, instance))
    assert await refusal(here, terminal, ticket) == (503, "RUNNER_UNREACHABLE")
    address, _ = await here.runner()
    path.symlink_to(address.removeprefix("unix:"))
    async with here.attach(terminal, ticket) as client:
        await client.send(b"now")
        assert await client.recv() == b"now"


@patch.object(watching, "POLL_SECONDS", 3_600.0)
@served()
async def test_a_revocation_that_is_told_cuts_without_a_look_at_the_store(here: Rig) -> None:
    address, _ = await here.runner()
    told, terminal = await here.open(address)
    other, _ = await here.open(address)
    here.store.move(terminal, "revoked")
    assert await closed(told) == (4401, "revoked")
    await other.send(b"others stay")
    assert await other.recv() == b"others stay"


@served()
async def test_a_revocation_that_nobody_told_is_found_by_the_look_of_each_second(
    here: Rig,
) -> None:
    address, _ = await here.runner()
    untold, terminal = await here.open(address)
    other, _ = await here.open(address)
    here.store.move(terminal, "revoked", tell=False)
    assert await closed(untold) == (4401, "revoked")
    assert watching.POLL_SECONDS <= 1.0
    await other.send(b"others stay")
    assert await other.recv() == b"others stay"


@served()
async def test_a_deadline_cuts_without_the_store(here: Rig) -> None:
    address, _ = await here.runner()
    terminal, instance = here.store.add(address, seconds=1.0)
    began = time.monotonic()
    client = await here.attach(terminal, sign(claims(terminal, instance)))
    here.store.run("UPDATE gatekeeper.terminal SET expires_at = 'infinity'")
    assert await closed(client) == (4408, "expired")
    assert time.monotonic() - began > 0.7


@served()
async def test_a_runner_says_itself_how_a_command_ended(here: Rig) -> None:
    async def exits(connection: ServerConnection) -> None:
        await connection.recv()
        here.store.move(terminals[0], "ended")
        await asyncio.sleep(0.3)
        await connection.close(4000, "exit 3")

    address, _ = await here.runner(exits)
    client, terminal = await here.open(address)
    terminals = [terminal]
    await client.send(b"go")
    assert await closed(client) == (4000, "exit 3")
    silent, other = await here.open((await here.runner())[0])
    with patch.object(watching, "COLLECT_SECONDS", 0.5):
        here.store.move(other, "cleaned")
        assert await closed(silent) == (4000, "ended")


@served()
async def test_what_is_left_to_say_has_its_time_after_the_end_and_no_more(here: Rig) -> None:
    async def never_done(connection: ServerConnection) -> None:
        while True:
            await connection.send("more")
            await asyncio.sleep(0.05)

    client, terminal = await here.open((await here.runner(never_done))[0])
    with patch.object(watching, "COLLECT_SECONDS", 1.5):
        began = time.monotonic()
        here.store.move(terminal, "ended")
        while time.monotonic() - began < 1.0:
            assert await client.recv() == "more"
        assert await closed(client) == (4000, "ended")
    assert time.monotonic() - began >= 1.5


@served()
async def test_one_that_is_cleaned_before_it_is_looked_at_is_closed_as_what_it_was(
    here: Rig,
) -> None:
    address, _ = await here.runner()
    words = {
        "revoked": (4401, "revoked"),
        "expired": (4408, "expired"),
        "idle": (4410, "idle"),
        "runner_lost": (4502, "runner_lost"),
        "output_limit": (4000, "ended"),
    }
    clients = {ending: await here.open(address) for ending in words}
    for ending, (_, terminal) in clients.items():
        here.store.move(terminal, "cleaned", ending=ending)
    with patch.object(watching, "COLLECT_SECONDS", 0.5):
        assert {ending: await closed(client) for ending, (client, _) in clients.items()} == words


@served()
async def test_a_cut_waits_for_the_end_of_a_frame_and_resets_where_none_comes(here: Rig) -> None:
    going_on = asyncio.Event()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switched(await reader.readuntil(b"\r\n\r\n")))
        writer.write(frame(b"x" * 1000, masked=False)[:500])
        await going_on.wait()
        writer.write(frame(b"x" * 1000, masked=False)[500:] + frame(b"never", masked=False))
        await reader.read()

    address = await here.raw_runner(half)
    client, terminal = await here.open(address)
    here.store.move(terminal, "revoked")
    await asyncio.sleep(0.2)
    going_on.set()
    assert await client.recv() == b"x" * 1000
    assert await closed(client) == (4401, "revoked")

    going_on.clear()
    client, terminal = await here.open(address)
    here.store.move(terminal, "revoked")
    with pytest.raises(ConnectionClosed) as end:
        await client.recv()
    assert end.value.rcvd is None
    going_on.set()


@served(ping_seconds=0.2)
async def test_pings_keep_an_idle_client_and_find_one_that_is_gone(here: Rig) -> None:
    address, _ = await here.runner()
    honest, _ = await here.open(address)
    terminal, instance = here.store.add(address)
    reader, _writer = await here.raw(terminal, sign(claims(terminal, instance)))
    await reader.readuntil(b"\r\n\r\n")
    began = time.monotonic()
    try:
        said = await reader.read(1000)
        while more := await reader.read(1000):
            said += more
    except ConnectionResetError:
        pass
    assert said == b"\x89\x00" * 3
    assert time.monotonic() - began > 0.3
    await honest.send(b"answers pings")
    assert await honest.recv() == b"answers pings"


@served()
async def test_draining_sends_everybody_elsewhere_and_lets_nobody_in(here: Rig) -> None:
    address, _ = await here.runner()
    clients = [(await here.open(address))[0] for _ in range(5)]
    slow, _ = await here.dial()
    here.stop.set()
    for client in clients:
        code, reason = await closed(client)
        assert (code, reason) == (1012, "this gateway stops; attach again")
    assert (await slow.read()).startswith(b"HTTP/1.1 503 ")
    await asyncio.wait_for(asyncio.shield(here.serving), 2)
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection("127.0.0.1", here.port)
    assert here.application.gate.counters.closes == {"1012": 5}


@served()
async def test_a_lost_runner_is_told_from_one_that_closes(here: Rig) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switched(await reader.readuntil(b"\r\n\r\n")) + frame(b"last", masked=False))
        await writer.drain()

    client, _ = await here.open(await here.raw_runner(dies))
    assert await client.recv() == b"last"
    assert await closed(client) == (4502, "the runner is gone")


@served()
async def test_keys_are_fetched_once_and_not_for_each_ticket_that_names_another(
    here: Rig,
) -> None:
    address, _ = await here.runner()
    terminal, instance = here.store.add(address)
    said = claims(terminal, instance)
    for number in range(20):
        assert (await refusal(here, terminal, sign(said, kid=f"unknown-{number}")))[0] == 401
    assert len(here.fetched) == 1
    async with here.attach(terminal, sign(said, KEY)):
        assert len(here.fetched) == 1


@served(max_sockets=2)
async def test_more_clients_than_may_be_are_told_to_come_back(here: Rig) -> None:
    address, _ = await here.runner()
    first, _ = await here.open(address)
    await here.open(address)
    terminal, instance = here.store.add(address)
    ticket = sign(claims(terminal, instance))
    assert await refusal(here, terminal, ticket) == (503, "SERVICE_UNAVAILABLE")
    await first.close()
    while len(here.application.gate.sessions) == 2:
        await asyncio.sleep(0.01)
    async with here.attach(terminal, ticket):
        assert len(here.application.gate.sessions) == 2


@served()
async def test_a_joined_pair_leaves_nothing_behind(here: Rig) -> None:
    address, seen = await here.runner()
    for _ in range(3):
        client, _ = await here.open(address)
        assert not [one for one in gc.get_objects() if type(one) is HeadReader]
        await client.close(1000, "done")
    gate = here.application.gate
    while len(gate.sessions) or gate.opening or gate.admitting:
        await asyncio.sleep(0.01)
    for connection in seen:
        await connection.wait_closed()
        assert connection.close_code == 1000
    assert not gate.sessions._of
    assert not gate.sessions._wheel


@served()
async def test_who_came_by_a_link_goes_when_it_is_over(here: Rig) -> None:
    address, _ = await here.runner()
    client, _ = await here.open(address, mode="read", until=int(time.time()) + 2)  # noqa: TID251
    await client.send(b"here")
    assert await client.recv() == b"here"
    async with asyncio.timeout(4):
        assert await closed(client) == (4408, "expired")
