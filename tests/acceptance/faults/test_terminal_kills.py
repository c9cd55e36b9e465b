"""Whatever is killed, and whenever: no terminal without an owner, none that lies about itself."""

import asyncio
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from acceptance.faults.false_runners import (
    Serve,
    flood,
    nonsense,
    refuse,
    stall,
)
from acceptance.faults.terminal_kills import (
    DATABASE,
    Stage,
    Victim,
    bring_to,
    closing,
    echoing,
    ended_for_good,
    kill,
    login_gone,
    no_ticket_is_lost,
    release,
    settled_and_true,
    typed,
)
from acceptance.faults.terminal_stacks import (
    TerminalStack,
    mark,
    nothing_left,
    offered,
    stack_in,
)
from gatekeeper.wire import terminals as wire

pytestmark = pytest.mark.slow


@pytest.fixture(name="stack")
def _stack(terminal_stack: TerminalStack) -> TerminalStack:
    return terminal_stack


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


@pytest.mark.parametrize("serve", [refuse, stall, nonsense, flood])
async def test_what_is_no_honest_runner_costs_no_ticket_and_makes_no_terminal_lie(
    stack: TerminalStack, serve: Serve
) -> None:
    await no_ticket_is_lost(stack, serve)
