"""Terminals when their parts are killed: none is left without an owner, and none lies about itself.

Real processes under `gk up`, which starts again what is killed.
"""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any, Final, Literal

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from acceptance.faults.terminal_stacks import (
    OVER,
    Caller,
    Screen,
    TerminalStack,
    eventually,
    living,
    mark,
    nothing_left,
    offered,
    stack_in,
)
from gatekeeper.client.api import ApiError
from gatekeeper.wire import terminals as wire

Victim = Literal["control-plane", "gateway", "runner", "store"]
Stage = Literal["pending", "starting", "ready", "ending"]

DATABASE: Final = {"target": "pg-local", "role": "app_read"}
HEARD: Final = "what-was-typed"


@pytest.fixture(name="stack")
def _stack(terminal_stack: TerminalStack) -> TerminalStack:
    return terminal_stack


def echoing(number: str) -> tuple[str, ...]:
    """Repeat what is typed, under a name that is found among all processes."""
    return ("/bin/sh", "-c", f"sleep {number} & echo up; while read -r l; do echo $l-$l; done")


async def typed(screen: Screen, text: str = HEARD) -> None:
    await screen.type(f"{text}\n")
    await screen.until(f"{text}-{text}")


async def closing(screen: Screen) -> ConnectionClosed:
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await screen.hear()
    return caught.value


async def kill(stack: TerminalStack, victim: Victim) -> None:
    """Kill a part with SIGKILL, and wait until it is there again."""
    if victim == "store":
        await crash_the_store(stack)
        return
    killed = stack.pid(victim)
    stack.kill(victim)
    await stack.back(victim, killed)


async def crash_the_store(stack: TerminalStack) -> None:
    """Kill one process of PostgreSQL: its postmaster throws all others out, and recovers."""
    backend = stack.rows(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'"
    )
    os.kill(backend[0][0], signal.SIGKILL)

    async def recovered() -> bool:
        with suppress(Exception):
            return bool(stack.rows("SELECT 1 WHERE NOT pg_is_in_recovery()"))
        return False

    await asyncio.sleep(0.2)
    await eventually(recovered)


async def login_gone(stack: TerminalStack, terminal: str) -> None:
    """Wait until the terminal's database session, if it ever had one, is proven gone."""

    async def cleaned() -> bool:
        with suppress(Exception):
            rows = stack.rows(
                "SELECT s.status FROM gatekeeper.session s JOIN gatekeeper.idempotency_key k"
                f" ON k.session_id = s.id WHERE k.key = 'terminal:{terminal}'"
            )
            return all(status == "cleaned" for (status,) in rows)
        return False

    await eventually(cleaned)


async def settled_and_true(dana: Caller, terminal: str, number: str) -> wire.TerminalView:
    """Wait until a terminal is ready or over, and see that it is what it says.

    One whose runner has just died is found dead when its runner says so: refused until then.
    """

    async def true() -> wire.TerminalView | None:
        view: wire.TerminalView = await dana.reach(terminal, "ready", *OVER)
        if view.status != "ready":
            return view
        try:
            async with dana.attached(terminal) as screen:
                await typed(screen, "still-there")
        except (InvalidStatus, ApiError):
            return None
        assert living(number)
        return view

    view = await eventually(true)
    if view.status != "ready":
        await dana.reach(terminal, "cleaned")
        await nothing_left(number)
    return view


async def ended_for_good(dana: Caller, terminal: str, number: str) -> None:
    view = await dana.stop(terminal, wait=0)
    view = await dana.reach(terminal, "cleaned")
    assert view.ended_at is not None
    await nothing_left(number)
    await login_gone(dana.stack, terminal)


# What each kill means to somebody who is attached.


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


@pytest.mark.slow
async def test_a_crash_of_the_store_lets_no_used_ticket_live_again(stack: TerminalStack) -> None:
    number = mark()
    async with stack.client() as dana:
        view = await dana.create(*echoing(number))
        used, unused = [await dana.ticket(view.terminal_id) for _ in range(2)]
        async with offered(used.url, used.ticket):
            pass
        async with dana.attached(view.terminal_id) as screen:
            await kill(stack, "store")
            await typed(screen)  # the data path needs no store
        for ticket in (used, unused):
            async with asyncio.timeout(20):
                status = await refusal(ticket)
            assert status in {401, 403, 409}
        await settled_and_true(dana, view.terminal_id, number)
        await ended_for_good(dana, view.terminal_id, number)


async def refusal(ticket: wire.TicketView) -> int:
    """Offer a ticket until it is refused for what it is, and not for a store that is away."""
    while True:
        with pytest.raises(InvalidStatus) as caught:
            async with offered(ticket.url, ticket.ticket):
                pass
        status = caught.value.response.status_code
        if status != 503:
            return status
        await asyncio.sleep(0.2)


# Every part at every stage.


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pending", "starting", "ready", "ending"])
@pytest.mark.parametrize("victim", ["control-plane", "gateway", "runner", "store"])
async def test_whatever_is_killed_when_a_terminal_is_what_it_says_and_can_be_ended(
    stack: TerminalStack, victim: Victim, stage: Stage
) -> None:
    number = mark()
    async with stack.client() as dana:
        terminal = await bring_to(dana, stage, number)
        await kill(stack, victim)
        release(stack)
        await settled_and_true(dana, terminal, number)
        await ended_for_good(dana, terminal, number)


async def bring_to(dana: Caller, stage: Stage, number: str) -> str:
    """Return a terminal at this stage; those that cannot be held there hold the runner."""
    wanted: dict[str, Any] = {"database": DATABASE, "reason": "fault"}
    if stage in {"pending", "starting"}:
        if stage == "pending":
            hold(dana.stack)
        view = await dana.create(*echoing(number), wait=0, **wanted)
        if stage == "pending":
            await asyncio.sleep(0.2)  # its order waits at the runner
        return view.terminal_id
    view = await dana.create(*echoing(number), **wanted)
    assert view.status == "ready", view
    if stage == "ready":
        async with dana.attached(view.terminal_id) as screen:
            await typed(screen)
    else:
        hold(dana.stack)
        await dana.stop(view.terminal_id, wait=0)
        await asyncio.sleep(0.1)
    return view.terminal_id


def hold(stack: TerminalStack) -> None:
    pid = stack.pid("runner")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)


def release(stack: TerminalStack) -> None:
    pid = stack.pid("runner")
    if pid is not None:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_when_all_is_killed_at_once_nothing_is_left_and_the_next_start_tells_the_truth(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    number, home = mark(), tmp_path_factory.mktemp("killed")
    with stack_in(home) as stack:
        async with stack.client() as dana:
            view = await dana.create(*echoing(number), database=DATABASE, reason="fault")
            async with dana.attached(view.terminal_id) as screen:
                await typed(screen)
                stack.process.kill()
                with suppress(ConnectionClosed):
                    await closing(screen)
        await nothing_left(number)
        await nothing_left(str(stack.folder))
        stack.start_again()
        async with stack.client() as dana:
            over = await dana.reach(view.terminal_id, "cleaned")
            await login_gone(stack, view.terminal_id)
            again = await dana.create(*echoing(number))
            await settled_and_true(dana, again.terminal_id, number)
            await ended_for_good(dana, again.terminal_id, number)

    assert over.ending == "runner_lost"
