"""Clients and runners that mean no good, or are broken: each ends alone, and costs little."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.exceptions import InvalidStatus

from factories.gateways import Rig, claims, served, sign, switched, upgrade
from factories.websocket_frames import frame
from gatekeeper.platform.processes.listening import BACKLOG
from gatekeeper.terminals.gateway import connection as opening
from gatekeeper.terminals.gateway import upstream
from gatekeeper.terminals.gateway.connection import Room
from gatekeeper.terminals.gateway.sessions import READ_BYTES
from waiting import settled

TICKET: Final = "aaa.bbb.ccc"
TERMINAL: Final = "trm_" + "a" * 20
SYSTEMS_MOST: Final = int(Path("/proc/sys/net/core/somaxconn").read_text())
OPEN_FILES: Final = Path("/proc/self/fd")
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Read to the end; a reset is one too."""
    said = b""
    try:
        while more := await reader.read(65_536):
            said += more
    except ConnectionResetError:
        pass
    return said


async def said_to(here: Rig, request: bytes) -> int:
    """Send bytes; return the status of the answer, 0 for none."""
    reader, writer = await here.dial()
    writer.write(request)
    answer = await all_of(reader)
    writer.close()
    if not answer:
        return 0
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["status"] == int(answer[9:12])
    return int(answer[9:12])


def open_files() -> set[Path]:
    found = set()
    for path in OPEN_FILES.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(path.readlink())
    return found


def local_names() -> list[object]:
    """Return where this process's own ends of TCP connections are."""
    found = []
    for path in OPEN_FILES.iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as one:
            found.append(one.getsockname())
    return found


def without(line: str) -> bytes:
    return b"\r\n".join(
        one for one in upgrade(TERMINAL, TICKET).split(b"\r\n") if not one.startswith(line.encode())
    )


GOOD: Final = upgrade(TERMINAL, TICKET)
REQUESTS: Final[list[tuple[bytes, int]]] = [
    (GOOD, 401),
    (GOOD.replace(b"\r\n", b"\n"), 400),
    (GOOD.replace(b"Host: ", b"Host : "), 400),
    (GOOD.replace(b"Host: gateway", b"Host: gateway\r\n folded"), 400),
    (GOOD.replace(b"Host: gateway", b"Host: gate\x00way"), 400),
    (GOOD.replace(b"Host: gateway", b"Host: gateway\rX: y"), 400),
    (GOOD.replace(b"Host: gateway", b"Host: gateway\r\nHost: other"), 400),
    (upgrade(TERMINAL, TICKET, "Origin: https://a", "origin: https://b"), 400),
    (upgrade(TERMINAL, TICKET, "Sec-WebSocket-Protocol: tty"), 400),
    (upgrade(TERMINAL, TICKET, "Content-Length: 0"), 400),
    (upgrade(TERMINAL, TICKET, "Transfer-Encoding: chunked"), 400),
    (upgrade(TERMINAL, TICKET, "Expect: 100-continue"), 400),
    (upgrade(TERMINAL, TICKET, *(f"X-{n}: y" for n in range(100))), 431),
    (upgrade(TERMINAL, TICKET, "X: " + "y" * 17_000), 431),
    (upgrade(TERMINAL, "a.b." + "c" * 5_000), 401),
    (upgrade("x" * 3_000, TICKET), 414),
    (upgrade(f"{TERMINAL}?ticket=x", TICKET), 404),
    (upgrade(f"../attach/{TERMINAL}", TICKET), 404),
    (GOOD.replace(b"GET", b"POST"), 405),
    (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    (GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"), 400),
    (GOOD.replace(b"GET /", b"GET  /"), 400),
    (GOOD.replace(b"GET /", b"GET http://gateway/"), 400),
    (GOOD.replace(b"Version: 13", b"Version: 12"), 426),
    (GOOD.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZR=="), 400),
    (GOOD.replace(b"Connection: Upgrade", b"Connection: close"), 426),
    (GOOD.replace(b"gk.term.v1, ", b"chat, "), 400),
    (GOOD.replace(f", ticket.{TICKET}".encode(), b""), 401),
    (GOOD.replace(b"gk.term.v1,", b"gk.term.v1, ticket.x.y.z,"), 401),
    (without("Host"), 400),
    (without("Upgrade"), 426),
    (without("Sec-WebSocket-Key"), 400),
    (without("Sec-WebSocket-Protocol"), 401),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500), 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"\r\n" + GOOD, 400),
]


@served()
async def test_each_request_that_is_no_upgrade_is_told_so(here: Rig) -> None:
    for request, status in REQUESTS:
        assert await said_to(here, request) == status, request[:200]
    while here.application.gate.opening:
        await asyncio.sleep(0.01)
    assert here.fetched in ([], [1])


@served(head_seconds=0.4)
async def test_slow_heads_end_and_a_client_of_single_bytes_is_served(here: Rig) -> None:
    address, _ = await here.runner()
    terminal, instance = here.store.add(address)
    silent, _ = await here.dial()
    slow, trickle = await here.dial()
    trickle.write(b"GET / HTTP/1.1\r\nX: ")
    assert await all_of(silent) == b""
    assert (await all_of(slow)).startswith(b"HTTP/1.1 408 ")
    reader, writer = await here.dial()
    everything = upgrade(terminal, sign(claims(terminal, instance))) + frame(b"\x00hello")
    for byte in everything:
        writer.write(bytes((byte,)))
        await asyncio.sleep(0)
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(8) == b"\x82\x06\x00hello"


@served()
async def test_who_keeps_silent_sockets_open_keeps_nobody_out(here: Rig) -> None:
    address, _ = await here.runner()
    here.application.gate.room = Room(joined=9_000, opening=20)
    silent = [await here.dial() for _ in range(50)]
    await asyncio.sleep(0.1)
    assert len(here.application.gate.opening) <= 20
    client, _ = await here.open(address)
    await client.send(b"let in")
    assert await client.recv() == b"let in"
    for _, writer in silent:
        writer.close()


@served()
async def test_who_is_refused_counts_until_it_is_gone(here: Rig) -> None:
    """A refusal has two seconds to arrive: whoever does not go holds a socket open meanwhile."""
    here.application.gate.room = Room(joined=9_000, opening=20)
    for _ in range(50):
        _, writer = await here.dial()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.2)
    ours = sum(here.listening.getsockname() == name for name in local_names())
    assert len(here.application.gate.opening) <= 20
    assert ours <= 20 + 1  # and the one that listens


@served()
async def test_what_comes_behind_both_heads_is_passed_on_first(here: Rig) -> None:
    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(switched(request) + frame(b"welcome", masked=False))
        writer.write(await reader.readexactly(len(frame(b"early"))))
        await writer.drain()
        await reader.read()

    terminal, instance = here.store.add(await here.raw_runner(greets))
    reader, _ = await here.raw(terminal, sign(claims(terminal, instance)), rest=frame(b"early"))
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(9) == frame(b"welcome", masked=False)
    with pytest.raises(asyncio.IncompleteReadError):  # the echo is masked: it is no runner's frame
        await reader.readexactly(200)


VIOLATIONS: Final[list[tuple[bytes, int]]] = [
    (frame(b"unmasked", masked=False), 1002),
    (frame(b"x", opcode=9, fin=False), 1002),
    (frame(b"x" * 126, opcode=9), 1002),
    (frame(b"x", opcode=8), 1002),
    (frame(b"x", opcode=3), 1002),
    (frame(b"x", opcode=0x42), 1002),
    (frame(b"x", opcode=0), 1002),
    (frame(b"x", fin=False) + frame(b"y"), 1002),
    (b"\x82\xfe\x00\x05" + bytes(9), 1002),
    (b"\x82\xff" + bytes(6) + b"\xff\xff" + bytes(4), 1002),
    (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1009),
    (b"\x82\xff" + (131_073).to_bytes(8) + bytes(4), 1009),
    (frame(b"x" * 70_000, fin=False) + frame(b"x" * 70_000, opcode=0), 1009),
]


@served()
async def test_frames_that_no_client_sends_end_it_before_they_reach_a_runner(here: Rig) -> None:
    address, seen = await here.runner()
    for sent, code in VIOLATIONS:
        terminal, instance = here.store.add(address)
        reader, writer = await here.raw(terminal, sign(claims(terminal, instance)))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        head = await reader.readexactly(4)
        assert head[0] == 0x88, sent[:20]
        assert int.from_bytes(head[2:]) == code, sent[:20]
        writer.close()
        await seen[-1].wait_closed()
        assert seen[-1].close_code == 1006
    assert here.application.gate.counters.closes == {"client violation": len(VIOLATIONS)}


def says(answer: bytes | None) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            writer.transport.abort()
        else:
            writer.write(answer)
            await writer.drain()

    return talk


def switches(*, change: Callable[[bytes], bytes], then: bytes = b"") -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(change(switched(await reader.readuntil(b"\r\n\r\n"))) + then)
        await writer.drain()
        await reader.read()

    return talk


RUNNERS: Final[list[tuple[Talk, int]]] = [
    (says(None), 503),
    (says(b""), 503),
    (says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), 502),
    (says(b"HTTP/1.1 403 Forbidden\r\n\r\n"), 502),
    (says(b"HTTP/1.1 404 Not Found\r\n\r\n"), 503),
    (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), 502),
    (says(os.urandom(20_000)), 502),
    (says(b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 5_000), 502),
    (switches(change=lambda said: said.replace(b"Accept: ", b"Accept: x")), 502),
    (switches(change=lambda said: said.replace(b"gk.term.v1", b"tty")), 502),
    (
        switches(
            change=lambda said: said.replace(
                b"Upgrade: websocket",
                b"Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate",
            )
        ),
        502,
    ),
    (switches(change=lambda said: said.replace(b"101 S", b"100 S")), 502),
    (switches(change=lambda said: said.replace(b"\r\n", b"\n")), 502),
]


@served()
async def test_a_runner_that_does_not_switch_is_told_of_and_uses_no_ticket_up(here: Rig) -> None:
    for talk, status in RUNNERS:
        terminal, instance = here.store.add(await here.raw_runner(talk))
        with pytest.raises(InvalidStatus) as refused:
            await here.attach(terminal, sign(claims(terminal, instance)))
        assert refused.value.response.status_code == status
        assert ("Retry-After" in refused.value.response.headers) is (status == 503)
    for address in ("unix:/nowhere", "tcp:127.0.0.1:1", "tcp:nowhere", "ftp:x"):
        terminal, instance = here.store.add(address)
        with pytest.raises(InvalidStatus) as refused:
            await here.attach(terminal, sign(claims(terminal, instance)))
        assert refused.value.response.status_code == 503
    assert here.store.used() == 0


@served()
async def test_an_admission_that_takes_too_long_is_given_up(here: Rig) -> None:
    """Whatever it waits for: here for a runner, which has longer of its own."""

    async def is_silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    terminal, instance = here.store.add(await here.raw_runner(is_silent))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InvalidStatus) as refused:
        patch.setattr(opening, "ADMIT_SECONDS", 0.2)
        patch.setattr(upstream, "RUNNER_SECONDS", 60.0)
        await here.attach(terminal, sign(claims(terminal, instance)))
    assert refused.value.response.status_code == 503
    assert here.store.used() == 0
    assert not here.application.gate.admitting


@served()
async def test_a_runner_that_speaks_nonsense_ends_its_client_and_no_other(here: Rig) -> None:
    address, _ = await here.runner()
    other, _ = await here.open(address)
    same: Callable[[bytes], bytes] = bytes
    for nonsense, code in (
        (frame(b"masked"), 1011),
        (b"\xff" * 100, 1011),
        (b"\x82\x7f" + b"\x7f" * 8, 1011),
        (frame(b"good", masked=False) + b"\x83\x00", 1011),
        (frame(b"x", opcode=8, masked=False), 1011),
    ):
        runner = await here.raw_runner(switches(change=same, then=nonsense))
        terminal, instance = here.store.add(runner)
        reader, _ = await here.raw(terminal, sign(claims(terminal, instance)))
        await reader.readuntil(b"\r\n\r\n")
        head = await reader.readexactly(4)
        assert (head[0], int.from_bytes(head[2:])) == (0x88, code), nonsense[:20]
    await other.send(b"not mine")
    assert await other.recv() == b"not mine"


@served()
async def test_a_client_that_never_reads_stalls_its_runner_and_holds_little(here: Rig) -> None:
    written = 0

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(switched(await reader.readuntil(b"\r\n\r\n")))
        block = frame(b"y" * 60_000, masked=False)
        while True:
            writer.write(block)
            await writer.drain()
            written += len(block)

    terminal, instance = here.store.add(await here.raw_runner(floods))
    _, writer = await here.raw(terminal, sign(claims(terminal, instance)))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await settled(lambda: written)
    (session,) = here.application.gate.sessions.of(terminal)
    held: Any = session
    # What was left of one read.
    assert 0 < held.client.get_write_buffer_size() <= READ_BYTES
    # A revocation ends it all the same, though it takes nothing any more.
    here.store.move(terminal, "revoked")
    while len(here.application.gate.sessions):
        await asyncio.sleep(0.02)


@served()
async def test_a_flood_arrives_whole_at_a_slow_reader(here: Rig) -> None:
    total, sent = 30_000_000, 0

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(switched(await reader.readuntil(b"\r\n\r\n")))
        for number in range(total // 60_000):
            writer.write(frame(number.to_bytes(4) * 15_000, masked=False))
            await writer.drain()
            sent += 60_000
        await reader.read()

    client, _ = await here.open(await here.raw_runner(floods))
    assert await settled(lambda: sent) < total
    for number in range(total // 60_000):
        assert await client.recv() == number.to_bytes(4) * 15_000
    counters = here.application.gate.counters
    assert counters.down_stalled > 0
    assert counters.down_bytes >= total


@served(ping_seconds=0.2)
async def test_a_runner_that_never_reads_stalls_its_client(here: Rig) -> None:
    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switched(await reader.readuntil(b"\r\n\r\n")))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()

    gone = asyncio.Event()
    terminal, instance = here.store.add(await here.raw_runner(stalls))
    reader, writer = await here.raw(terminal, sign(claims(terminal, instance)))
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(500):
        writer.write(frame(b"z" * 60_000))
    (session,) = here.application.gate.sessions.of(terminal)
    held: Any = session
    assert 0 < await settled(held.runner.get_write_buffer_size) <= READ_BYTES
    writer.transport.abort()
    while len(here.application.gate.sessions):
        await asyncio.sleep(0.02)
    gone.set()


@served()
async def test_a_runner_that_never_reads_is_let_go_when_its_client_was_cut(here: Rig) -> None:
    """What it was to be sent would hold its connection open for ever."""

    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switched(await reader.readuntil(b"\r\n\r\n")))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()

    gone = asyncio.Event()
    terminal, instance = here.store.add(await here.raw_runner(stalls))
    reader, writer = await here.raw(terminal, sign(claims(terminal, instance)))
    await reader.readuntil(b"\r\n\r\n")
    (session,) = here.application.gate.sessions.of(terminal)
    held: Any = session
    number = held.runner.get_extra_info("socket").fileno()
    link = (OPEN_FILES / str(number)).readlink()
    while not held.runner.get_write_buffer_size():
        writer.write(frame(b"z" * 60_000))
        await asyncio.sleep(0)
    writer.write(frame((1000).to_bytes(2), opcode=8))
    here.store.move(terminal, "revoked", ending="revoked")
    assert (await reader.readexactly(4))[2:] == (4401).to_bytes(2)
    await all_of(reader)
    try:
        async with asyncio.timeout(8):
            while link in open_files():
                await asyncio.sleep(0.05)
    finally:
        gone.set()


@served()
async def test_a_client_that_resets_leaves_no_session(here: Rig) -> None:
    address, seen = await here.runner()
    for _ in range(5):
        terminal, instance = here.store.add(address)
        reader, writer = await here.raw(terminal, sign(claims(terminal, instance)))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(b"half")[:3])
        writer.transport.abort()
    while len(here.application.gate.sessions):
        await asyncio.sleep(0.01)
    for connection in seen:
        await connection.wait_closed()
    assert here.application.gate.counters.closes == {"client": 5}


@served()
async def test_a_client_that_ends_its_sending_still_hears_the_end(here: Rig) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switched(await reader.readuntil(b"\r\n\r\n")))
        heard = await reader.read()
        writer.write(frame(b"%d" % len(heard), masked=False) + b"\x88\x02\x03\xe8")
        await writer.drain()

    terminal, instance = here.store.add(await here.raw_runner(answers))
    reader, writer = await here.raw(terminal, sign(claims(terminal, instance)))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame(b"last words"))
    writer.write_eof()
    assert await all_of(reader) == frame(b"16", masked=False) + b"\x88\x02\x03\xe8"


@served()
async def test_those_who_come_at_once_wait_to_be_let_in(here: Rig) -> None:
    """Beyond it the kernel drops who comes; their next try is a second later, then three."""
    assert await said_to(here, GOOD) == 401  # it serves
    state = here.listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    room = int.from_bytes(state[28:32], "little")  # tcpi_sacked: what was given to listen(2)
    assert room == min(BACKLOG, SYSTEMS_MOST)


@served(within=60.0)
async def test_a_thousand_bad_tickets_at_once_leave_a_gateway_that_serves(here: Rig) -> None:
    address, _ = await here.runner()
    client, _ = await here.open(address)
    terminal, instance = here.store.add(address)
    from factories.gateways import KEY  # noqa: PLC0415

    good = sign(claims(terminal, instance), KEY)
    forged = good[:-20] + "A" * 20
    statuses = await asyncio.gather(
        *(said_to(here, upgrade(terminal, forged)) for _ in range(1_000))
    )
    assert set(statuses) == {401}
    await client.send(b"still here")
    assert await client.recv() == b"still here"
    async with here.attach(terminal, good):
        assert here.store.used() == 2
