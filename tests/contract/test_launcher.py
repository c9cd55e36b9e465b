"""What every launcher promises: one suite, on the fake and on each that starts something."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from contract.launcher_rigs import CAPACITY, RIGS, LauncherRig
from fakes.terminal_world import launch_of, new_terminal
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.ids import SessionId
from gatekeeper.kernel.scram import is_verifier
from gatekeeper.terminals.model import DatabaseWanted, Ending, Terminal
from gatekeeper.terminals.ports import BoundLogin, Launcher

LOGIN = BoundLogin(
    session=SessionId("ses_" + "a" * 20), host="127.0.0.1", port=1, database="shop",
    sslmode="disable", username="gk_" + "a" * 20,
)  # fmt: skip


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[LauncherRig]:
    async with RIGS[request.param]() as made:
        yield made


async def launched(launcher: Launcher) -> Terminal:
    terminal = new_terminal()
    await launcher.launch(launch_of(terminal))
    return terminal


async def test_a_launch_that_is_repeated_finds_the_first(rig: LauncherRig) -> None:
    terminal = new_terminal()
    first = await rig.launcher.launch(launch_of(terminal))
    again = await rig.launcher.launch(launch_of(terminal))

    assert (first.already, again.already) == (False, True)
    assert first.instance == again.instance == terminal.instance
    assert first.address == again.address
    assert first.address.startswith(("unix:/", "tcp:"))
    assert first.verifier is None
    assert first.signed.count(".") == 2


async def test_a_launch_that_is_repeated_when_the_command_has_ended_finds_it(
    rig: LauncherRig,
) -> None:
    terminal = await launched(rig.launcher)
    await rig.finish(terminal, 3)
    again = await rig.launcher.launch(launch_of(terminal))
    gone = await rig.launcher.end(terminal.id, terminal.instance, "exited")

    assert (again.already, again.instance) == (True, terminal.instance)
    assert gone.ended is not None
    assert (gone.ended.ending, gone.ended.exit_code) == (Ending.EXITED, 3)


async def test_two_launches_at_once_start_one(rig: LauncherRig) -> None:
    terminal = new_terminal()
    both = await asyncio.gather(*(rig.launcher.launch(launch_of(terminal)) for _ in range(2)))

    assert sorted(one.already for one in both) == [False, True]


async def test_an_end_is_proven_and_safe_to_repeat(rig: LauncherRig) -> None:
    terminal = await launched(rig.launcher)
    gone = await rig.launcher.end(terminal.id, terminal.instance, "revoked")
    again = await rig.launcher.end(terminal.id, terminal.instance, "revoked")

    assert (gone.existed, gone.gone, gone.left) == (True, True, ())
    assert gone.processes_ended >= 1
    assert gone.ended is not None
    assert gone.ended.ending is Ending.REVOKED
    assert gone.signed.count(".") == 2
    assert (again.gone, again.left) == (True, ())


async def test_one_that_was_never_here_is_gone(rig: LauncherRig) -> None:
    terminal = new_terminal()
    gone = await rig.launcher.end(terminal.id, terminal.instance, "launch_failed")

    assert (gone.existed, gone.gone) == (False, True)


async def test_what_was_ended_is_never_started_again(rig: LauncherRig) -> None:
    ended, never = await launched(rig.launcher), new_terminal()
    for terminal in (ended, never):
        await rig.launcher.end(terminal.id, terminal.instance, "expired")
        with pytest.raises(GatekeeperError) as caught:
            await rig.launcher.launch(launch_of(terminal))
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.RUNNER_REJECTED, False)


async def test_it_says_how_a_command_had_ended_by_itself(rig: LauncherRig) -> None:
    terminal = await launched(rig.launcher)
    await rig.finish(terminal, 3)
    gone = await rig.launcher.end(terminal.id, terminal.instance, "exited")

    assert gone.gone
    assert gone.ended is not None
    assert (gone.ended.ending, gone.ended.exit_code) == (Ending.EXITED, 3)


async def test_programs_type_look_and_wait(rig: LauncherRig) -> None:
    terminal = await launched(rig.launcher)
    about = (terminal.id, terminal.instance)
    waiting = asyncio.create_task(rig.launcher.wait_for_text(*about, "canary", 20))
    await asyncio.sleep(0)
    await rig.launcher.send_input(*about, "echo canary\n")
    found = await waiting
    lines, size = await rig.launcher.screen(*about)

    assert found
    assert any("canary" in line for line in lines)
    assert size == terminal.size
    assert not await rig.launcher.wait_for_text(*about, "never there", 0.05)


async def test_another_launch_of_a_terminal_is_another_one(rig: LauncherRig) -> None:
    terminal = await launched(rig.launcher)
    other = new_terminal().instance

    for instance, name in ((other, terminal.id), (terminal.instance, new_terminal().id)):
        with pytest.raises(GatekeeperError) as caught:
            await rig.launcher.screen(name, instance)
        assert caught.value.code is ErrorCode.NOT_FOUND
    await rig.launcher.end(terminal.id, other, "revoked")
    await rig.launcher.screen(terminal.id, terminal.instance)


async def test_there_are_so_many_places_and_a_full_one_may_be_tried_again(
    rig: LauncherRig,
) -> None:
    assert rig.launcher.capacity == CAPACITY
    held = [await launched(rig.launcher) for _ in range(CAPACITY)]
    waiting = new_terminal()
    with pytest.raises(GatekeeperError) as caught:
        await rig.launcher.launch(launch_of(waiting))
    assert caught.value.retryable
    await rig.launcher.end(held[0].id, held[0].instance, "revoked")

    assert not (await rig.launcher.launch(launch_of(waiting))).already


async def test_one_that_is_away_may_be_tried_again_and_comes_back_with_nothing(
    rig: LauncherRig,
) -> None:
    terminal = await launched(rig.launcher)
    about = (terminal.id, terminal.instance)
    await rig.stop()
    with pytest.raises(GatekeeperError) as caught:
        await rig.launcher.end(*about, "revoked")
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.RUNNER_UNREACHABLE, True)
    await rig.start()

    with pytest.raises(GatekeeperError) as caught_again:
        await rig.launcher.screen(*about)
    assert caught_again.value.code is ErrorCode.NOT_FOUND
    assert (await rig.launcher.end(*about, "revoked")).gone


async def test_what_could_not_be_started_leaves_nothing(rig: LauncherRig) -> None:
    terminal = replace(new_terminal(), command=("/nonexistent",))
    with contextlib.suppress(GatekeeperError):
        await rig.launcher.launch(launch_of(terminal))
    gone = await rig.launcher.end(terminal.id, terminal.instance, "launch_failed")

    assert gone.gone


async def test_a_login_is_bound_to_the_password_that_the_launcher_made(rig: LauncherRig) -> None:
    wanted = DatabaseWanted(target="pg", role="app_read")
    terminal = new_terminal(database=wanted)
    made = await rig.launcher.launch(launch_of(terminal))
    for _ in range(2):
        await rig.launcher.bind(terminal.id, terminal.instance, LOGIN)
    with pytest.raises(GatekeeperError) as caught:
        await rig.launcher.bind(new_terminal().id, terminal.instance, LOGIN)
    again = await rig.launcher.launch(launch_of(terminal))

    assert is_verifier(made.verifier or "")
    assert again.verifier == made.verifier
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert (await rig.launcher.end(terminal.id, terminal.instance, "revoked")).gone


async def test_a_login_is_bound_again_when_the_command_has_ended(rig: LauncherRig) -> None:
    """The first answer was lost: how it ended is told by a report, not by a refusal."""
    terminal = new_terminal(database=DatabaseWanted(target="pg", role="app_read"))
    await rig.launcher.launch(launch_of(terminal))
    await rig.launcher.bind(terminal.id, terminal.instance, LOGIN)
    await rig.finish(terminal, 3)
    await rig.launcher.bind(terminal.id, terminal.instance, LOGIN)
