"""A stack with terminals meets kills, forged tickets, a storm, wrong frames and false runners.

Real processes under `gk up`, which starts again what is killed. Every part at every stage, and
every kind of false runner, is in the slow lane: test_terminal_kills.py.
"""

import asyncio
import json
import time
from collections import Counter
from contextlib import suppress
from typing import Final

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from acceptance.faults.false_runners import (
    Serve,
    reset,
    wrong_key,
)
from acceptance.faults.forged_tickets import published_key, tricks
from acceptance.faults.terminal_kills import (
    DATABASE,
    HEARD,
    closing,
    echoing,
    ended_for_good,
    kill,
    login_gone,
    no_ticket_is_lost,
    settled_and_true,
    typed,
)
from acceptance.faults.terminal_stacks import (
    Caller,
    TerminalStack,
    living,
    mark,
    nothing_left,
    offered,
)

STORM: Final = 1_000
STORM_SECONDS: Final = 60.0

FRAMES: Final = {
    "unmasked": b"\x82\x02\x00a",
    "a reserved bit": b"\xc2\x82\0\0\0\0\x00a",
    "a reserved opcode": b"\x83\x81\0\0\0\0a",
    "a fragmented ping": b"\x09\x80\0\0\0\0",
    "a ping of 126 bytes": b"\x89\xfe\x00\x7e\0\0\0\0" + b"a" * 126,
    "text that is no UTF-8": b"\x81\x82\0\0\0\0\xc3\x28",
    "a continuation of nothing": b"\x80\x81\0\0\0\0a",
    "a close of one byte": b"\x88\x81\0\0\0\0a",
    "a frame of 2^63 bytes": b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0",
    "a frame of 1 GiB": b"\x82\xff" + (2**30).to_bytes(8, "big") + b"\0\0\0\0" + b"a" * 4_096,
    "no JSON": b"\x81\x81\0\0\0\0{",
    "deep JSON": b"\x81\xfe\x0f\xa0\0\0\0\0" + b"[" * 4_000,
    "a kind that is none": b"\x82\x81\0\0\0\0\x07",
}
CLOSES: Final = {1002, 1003, 1006, 1007, 1009, 1011}


@pytest.fixture(name="stack")
def _stack(terminal_stack: TerminalStack) -> TerminalStack:
    return terminal_stack


async def test_a_killed_runner_takes_its_terminals_and_their_logins_with_it(
    stack: TerminalStack,
) -> None:
    number = mark()
    async with stack.client() as dana:
        view = await dana.create(*echoing(number), database=DATABASE, reason="fault")
        assert view.status == "ready", view
        async with dana.attached(view.terminal_id) as screen:
            await typed(screen)
            killed = stack.pid("runner")
            stack.kill("runner")
            closed = await closing(screen)
            await nothing_left(number, seconds=5)
        over = await dana.reach(view.terminal_id, "cleaned")
        await login_gone(stack, view.terminal_id)
        await stack.back("runner", killed)
        again = await dana.create(*echoing(number))
        await settled_and_true(dana, again.terminal_id, number)
        await ended_for_good(dana, again.terminal_id, number)

    assert closed.rcvd is not None
    assert closed.rcvd.code in {4502, 1011, 1012, 1013}, closed
    assert over.ending == "runner_lost"


async def test_a_killed_gateway_costs_an_attached_client_nothing_but_the_way_back(
    stack: TerminalStack,
) -> None:
    number = mark()
    async with stack.client() as dana:
        view = await dana.create(*echoing(number))
        async with dana.attached(view.terminal_id) as screen:
            await typed(screen)
            offset, seen = screen.offset, screen.seen
            before = living(number)
            await kill(stack, "gateway")
            with suppress(ConnectionClosed):
                await closing(screen)
        async with dana.attached(view.terminal_id, offset) as screen:
            await typed(screen, "second")
            assert HEARD.encode() not in screen.seen, "what was seen is not sent again"
        assert HEARD.encode() in seen
        assert living(number) == before
        await ended_for_good(dana, view.terminal_id, number)


async def test_a_terminal_goes_on_without_its_control_plane_and_tells_it_of_its_end_later(
    stack: TerminalStack,
) -> None:
    number = mark()
    async with stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", f"sleep {number} & read l; echo $l-$l; exit 7")
        async with dana.attached(view.terminal_id) as screen:
            killed = stack.pid("control-plane")
            stack.kill("control-plane")
            await typed(screen)
            with suppress(ConnectionClosed):
                await closing(screen)
        await stack.back("control-plane", killed)
        over = await dana.reach(view.terminal_id, "cleaned")
        await nothing_left(number)

    assert (over.ending, over.exit_code) == ("exited", 7)
    assert HEARD in (over.last_screen or "")


async def test_no_trick_with_a_tickets_signature_lets_anybody_in_or_uses_the_ticket_up(
    stack: TerminalStack,
) -> None:
    number = mark()
    async with stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", f"echo up; exec sleep {number}")
        good = await dana.ticket(view.terminal_id)
        key = await published_key(dana, good.ticket)
        let_in = []
        for name, forged in tricks(stack, good.ticket, key).items():
            with pytest.raises(InvalidStatus) as caught:
                async with offered(good.url, forged):
                    let_in.append(name)
            response = caught.value.response
            assert response.status_code in {400, 401, 403, 431}, (name, response.status_code)
            if response.status_code != 431:
                assert json.loads(response.body or b"{}")["code"], name
            assert forged.encode() not in (response.body or b"")
        assert not let_in
        async with offered(good.url, good.ticket):
            pass
        other = await dana.create("/bin/sh", "-c", f"exec sleep {number}")
        elsewhere = await dana.ticket(other.terminal_id)
        with pytest.raises(InvalidStatus):
            async with offered(good.url, elsewhere.ticket):
                pass
        logs = (stack.folder / "gateway.log").read_text()
        assert good.ticket.split(".")[2] not in logs
        for terminal in (view.terminal_id, other.terminal_id):
            await dana.stop(terminal)
        await nothing_left(number)


async def test_one_ticket_offered_by_many_at_once_lets_one_in(
    stack: TerminalStack,
) -> None:
    async with stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", f"exec sleep {mark()}")
        ticket = await dana.ticket(view.terminal_id)

        async def one() -> int:
            try:
                async with offered(ticket.url, ticket.ticket):
                    return 101
            except InvalidStatus as refused:
                return refused.response.status_code

        statuses = Counter(await asyncio.gather(*(one() for _ in range(20))))
        await dana.stop(view.terminal_id)

    assert statuses[101] == 1, statuses
    assert set(statuses) <= {101, 401, 403, 409}, statuses


async def test_a_thousand_bad_tickets_at_once_are_refused_and_hold_nobody_up(
    stack: TerminalStack,
) -> None:
    async with stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", "while read -r l; do echo $l-$l; done")
        good = await dana.ticket(view.terminal_id)
        forged = list(tricks(stack, good.ticket, await published_key(dana, good.ticket)).values())
        async with dana.attached(view.terminal_id) as screen:
            storm = asyncio.create_task(
                asyncio.to_thread(asyncio.run, storming(stack, view.terminal_id, forged))
            )
            longest, number = 0.0, 0
            while not storm.done():
                began = time.monotonic()
                number += 1
                await screen.type(f"n{number}\n")
                await screen.until(f"n{number}-n{number}")
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.02)
            statuses = await storm
        async with dana.attached(view.terminal_id) as screen:
            await screen.type("after\n")
            await screen.until("after-after")
        await dana.stop(view.terminal_id)

    assert sum(statuses.values()) == STORM
    assert set(statuses) <= {400, 401, 403, 408, 431, 503}, statuses
    assert longest < 10, "seconds until an echo came back, on a machine that is busy"


async def storming(stack: TerminalStack, terminal: str, tickets: list[str]) -> Counter[int]:
    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.gateway_port)
        try:
            writer.write(
                f"GET /attach/{terminal} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: "
                f"gk.term.v1, ticket.{tickets[number % len(tickets)]}\r\n\r\n".encode()
            )
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async with asyncio.timeout(STORM_SECONDS):
        return Counter(await asyncio.gather(*(one(number) for number in range(STORM))))


async def test_what_is_sent_wrongly_costs_its_sender_the_socket_and_nobody_else_anything(
    stack: TerminalStack,
) -> None:
    async with stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", "while read -r l; do echo $l-$l; done")
        async with dana.attached(view.terminal_id) as witness:
            for name, frame in FRAMES.items():
                assert await closed_with(dana, view.terminal_id, frame) in CLOSES, name
            await witness.type("here\n")
            await witness.until("here-here")
        async with dana.attached(view.terminal_id) as slowly:
            await slowly.socket.send('{"type":"take"}')
            for byte in b"\x82\x86\0\0\0\0\x00slow\n":
                slowly.socket.transport.write(bytes([byte]))
                await asyncio.sleep(0.005)
            await slowly.until("slow-slow")
        await dana.stop(view.terminal_id)


async def closed_with(dana: Caller, terminal: str, frame: bytes) -> int:
    async with dana.attached(terminal) as hostile:
        hostile.socket.transport.write(frame)
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    await hostile.hear()
    return 1006 if caught.value.rcvd is None else caught.value.rcvd.code


@pytest.mark.parametrize("serve", [reset, wrong_key])
async def test_what_is_no_honest_runner_costs_no_ticket_and_makes_no_terminal_lie(
    stack: TerminalStack, serve: Serve
) -> None:
    await no_ticket_is_lost(stack, serve)
