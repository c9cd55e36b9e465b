"""How a part of a stack is killed, and how it is seen that no terminal lies afterwards."""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any, Final, Literal

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from acceptance.faults.false_runners import Serve, in_the_runners_place
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
)
from gatekeeper.client.api import ApiError
from gatekeeper.wire import terminals as wire

Victim = Literal["control-plane", "gateway", "runner", "store"]
Stage = Literal["pending", "starting", "ready", "ending"]

DATABASE: Final = {"target": "pg-local", "role": "app_read"}
HEARD: Final = "what-was-typed"


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


async def no_ticket_is_lost(stack: TerminalStack, serve: Serve) -> None:
    number = mark()
    async with stack.client() as dana:
        view = await dana.create("/bin/sh", "-c", f"echo up; exec sleep {number}")
        ticket = await dana.ticket(view.terminal_id)
        async with in_the_runners_place(stack, serve):
            with pytest.raises(InvalidStatus) as caught:
                async with offered(ticket.url, ticket.ticket):
                    pass
            waiting = await dana.create("/bin/sh", "-c", f"exec sleep {number}", wait=1)
        assert caught.value.response.status_code in {502, 503, 504}
        async with offered(ticket.url, ticket.ticket):
            pass
        view = await dana.get(view.terminal_id)
        assert view.status == "ready"
        assert waiting.status in {"pending", "failed"}, waiting
        await dana.reach(waiting.terminal_id, "ready", "failed", "cleaned")
        for terminal in (view.terminal_id, waiting.terminal_id):
            await dana.stop(terminal)
            await dana.reach(terminal, "cleaned")
        await nothing_left(number)
