"""A runner's terminals, through its socket: real PTYs, driven as gateways' clients do."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING

import pytest
from runner_rig import Rig, names
from websockets.exceptions import ConnectionClosed

from gatekeeper.kernel.terminal import term
from gatekeeper.terminals.model import Mode
from gatekeeper.terminals.runner.screen.emulator import Emulator
from gatekeeper.terminals.runner.term_client import MOST_PASSES
from gatekeeper.wire.runner import (
    EndOrder,
    InputOrder,
    ScreenOrder,
    WaitOrder,
)
from waiting import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


COUNT = 200_000
STREAM = "".join(f"{n}\r\n" for n in range(1, COUNT + 1)).encode()
"""What `seq 1 COUNT` writes to a terminal."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as running:
        yield running


async def test_a_shell_runs_and_says_how_it_ended(rig: Rig) -> None:
    order = await rig.launch("/bin/sh")
    async with rig.client(order) as client:
        await client.write("echo a-$((1+1))-b; exit 3\r")
        await client.until("a-2-b")
        exited = await client.until_said(term.Exit)
        assert (exited.ending, exited.code) == ("exited", 3)
        assert await client.until_closed() == (4000, "exit 3")
    ended = (await rig.plane.until(order.instance, "ended")).ended
    assert (ended.ending, ended.exit_code) == ("exited", 3)
    assert "a-2-b" in ended.last_screen


async def test_a_signal_is_told_as_one(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "kill -TERM $$")
    ended = (await rig.plane.until(order.instance, "ended")).ended

    assert (ended.exit_code, ended.signal) == (None, 15)
    async with rig.client(order) as client:
        assert await client.until_closed() == (4000, "signal 15")


async def test_the_first_size_is_the_clients_and_changes_are_passed_on(rig: Rig) -> None:
    order = await rig.launch("/bin/sh")
    async with rig.client(order, size=(100, 30)) as client:
        await client.write("stty size\r")
        await client.until("30 100")
        await client.say(term.Resize(90, 20))
        await client.write("stty size\r")
        await client.until("20 90")
        assert client.said[-1] == term.SizeChanged(columns=90, rows=20)


async def test_characters_and_colours_pass_as_they_are(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with rig.client(order) as client:
        await client.write("\x1b[31mlö日本👍\x1b[0m\r")
        await client.until("lö日本👍")
    screen = await rig.order(ScreenOrder(**names(order)))
    assert screen.type == "screen"
    assert "lö日本👍" in screen.lines[0]


async def test_ctrl_c_works_at_once_under_a_flood(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "trap 'echo; echo stopped; exit 4' INT; yes; exit 5")
    async with rig.client(order) as client:
        await client.until("y\r\n" * 1_000)
        began = asyncio.get_running_loop().time()
        await client.write("\x03")
        assert await client.until_closed() == (4000, "exit 4")
        assert asyncio.get_running_loop().time() - began < 2
    assert "stopped" in client.output[-100:].decode()


async def test_a_cable_pulled_in_a_flood_loses_and_repeats_nothing(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", f"read go; seq 1 {COUNT}")
    whole, offset, pulls = b"", 0, 0
    while True:
        async with rig.client(order, offset=offset) as client:
            if not offset:
                await client.write("\r")
            while len(client.output) < 300_000 and client.socket.close_code is None:
                try:
                    await client.hear()
                except Exception:  # noqa: BLE001  # closed
                    break
                if any(isinstance(said, term.Exit) for said in client.said):
                    break
            client.socket.transport.abort()
            assert not client.screens
        whole += client.output
        offset, pulls = client.offset, pulls + 1
        if any(isinstance(said, term.Exit) for said in client.said):
            break
    assert pulls > 3
    assert whole.removeprefix(b"\r\n") == STREAM
    assert hashlib.sha256(whole[2:]).digest() == hashlib.sha256(STREAM).digest()


async def test_who_joins_late_sees_the_screen_and_what_follows(rig: Rig) -> None:
    script = r"printf '\033[?1049h\033[2J\033[3;5H\033[32mfile\033[0m \033[?25l'; read x; printf done; sleep 60"
    order = await rig.launch("/bin/sh", "-c", script)
    async with rig.client(order) as first:
        await first.until("file")
        async with rig.client(order, subject="eve", mode=Mode.READ) as late:
            while not late.screens:
                await late.hear()
            await first.write("\r")
            await late.until("done")
            await first.until("done")
            assert late.output == first.output[late.start :]
        screen = Emulator(80, 24)
        screen.feed(late.screens[0].data)
        assert screen.alternate is not None
        assert screen.lines()[2] == "    file"
        assert 25 not in screen.modes


async def test_who_only_watches_cannot_type_resize_or_end(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with rig.client(order, mode=Mode.READ, size=(50, 10)) as watcher:
        await watcher.write("no\r")
        await watcher.say(term.Resize(40, 9))
        await watcher.say(term.Take())
        await watcher.say(term.End())
        await watcher.say(term.Ping(7))
        await watcher.until_said(term.Pong)
        assert {type(said) for said in watcher.said} >= {term.Notice}
        assert not any(isinstance(said, term.SizeChanged | term.Lease) for said in watcher.said)
        assert watcher.output == b""
        async with rig.client(order, subject="eve") as writer:
            await writer.write("yes\r")
            await watcher.until("yes")


async def test_the_input_passes_from_hand_to_hand(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with (
        rig.client(order, subject="dana", name="Dana") as dana,
        rig.client(order, subject="eve", name="Eve") as eve,
        rig.client(order, subject="olga", name="Olga", mode=Mode.MODERATE) as olga,
    ):
        assert (dana.said[0].mine, eve.said[0].mine) == (True, False)  # type: ignore[union-attr]
        await eve.say(term.Take())
        await eve.until_said(term.Notice)
        await olga.say(term.Take())
        assert await dana.until_said(term.Lease) == term.Lease(holder="Olga", mine=False)
        assert await olga.until_said(term.Lease) == term.Lease(holder="Olga", mine=True)
        await dana.write("lost\r")
        await dana.until_said(term.Notice)
        await olga.say(term.Release())
        while not any(said == term.Lease(holder=None, mine=False) for said in eve.said):
            await eve.hear()
        await eve.write("found\r")
        await eve.until("found")
        assert b"lost" not in eve.output
    await rig.plane.until(order.instance, "lease", 4)
    leases = [event.holder for event in rig.plane.of(order.instance, "lease")]
    assert leases[:4] == ["dana", "olga", None, "eve"]


async def test_passing_the_input_to_and_fro_floods_neither_evidence_nor_viewers(rig: Rig) -> None:
    order = await rig.launch()
    async with rig.client(order) as dana, rig.client(order, mode=Mode.READ, subject="olga") as olga:
        for _ in range(2_000):
            await dana.say(term.Release())
            await dana.say(term.Take())
        await dana.write("echo st''ill\n")
        await dana.until("still")
        await olga.until("still")
        assert [said for said in dana.said if isinstance(said, term.Notice)]

    await rig.order(EndOrder(**names(order), why="revoked"))
    await rig.plane.until(order.instance, "ended")
    assert len(rig.plane.of(order.instance, "lease")) <= MOST_PASSES + 2


async def test_of_many_sizes_few_are_told_and_the_last_one_stays(rig: Rig) -> None:
    order = await rig.launch()
    async with rig.client(order, size=(80, 24)) as dana:
        for columns in range(100, 900):
            await dana.say(term.Resize(columns, 40))
        await dana.say(term.Resize(77, 33))
        while (await dana.until_said(term.SizeChanged)).columns != 77:
            await dana.hear()
        told = sum(isinstance(said, term.SizeChanged) for said in dana.said)
        await dana.write("stty size\n")
        await dana.until("33 77")

    assert told < 400
    await rig.order(EndOrder(**names(order), why="revoked"))
    assert b"".join(rig.recording(order)).count(b'"r"') == told


async def test_a_moderator_ends_a_terminal(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with (
        rig.client(order) as writer,
        rig.client(order, subject="olga", mode=Mode.MODERATE) as olga,
    ):
        await olga.say(term.End())
        assert await writer.until_closed() == (4401, "revoked")
        assert (await olga.until_closed())[0] == 4401
    assert (await rig.plane.until(order.instance, "ended")).ended.ending == "revoked"


async def test_a_client_that_never_reads_holds_up_nobody_else(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", f"read go; seq 1 {COUNT}; sleep 60")
    async with (
        rig.client(order) as holder,
        rig.client(order, subject="eve", mode=Mode.READ) as deaf,
    ):
        deaf.acks = False
        await holder.write("\r")
        await holder.until(f"\r\n{COUNT}\r\n")
        await deaf.say(term.Ack(0))
        while not deaf.screens or f"{COUNT}" not in _drawn(deaf.screens[-1]).lines():
            await deaf.hear()


def _drawn(screen: term.Screen) -> Emulator:
    emulator = Emulator(80, 24)
    emulator.feed(screen.data)
    return emulator


async def test_a_holder_that_does_not_acknowledge_pauses_the_command(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "read go; yes")
    async with rig.client(order) as holder:
        holder.acks = False
        await holder.write("\r")
        while len(holder.output) < term.WINDOW_BYTES:
            await holder.hear()
        session = rig.server.runner.host.sessions[0]
        written = await settled(lambda: session.stream.written)
        assert written < term.WINDOW_BYTES + 2 * 65_536
        await holder.say(term.Ack(holder.offset))
        holder.acks = True
        while len(holder.output) < 2 * term.WINDOW_BYTES:
            await holder.hear()


async def test_a_deadline_passes(rig: Rig) -> None:
    order = await rig.launch("/bin/cat", seconds_left=0.3)
    async with rig.client(order) as client:
        assert 0 < client.said[0].expires_in <= 0.3  # type: ignore[union-attr]
        assert await client.until_closed() == (4408, "expired")


async def test_idle_means_that_nobody_types_and_nothing_is_written(rig: Rig) -> None:
    busy = await rig.launch(
        "/bin/sh", "-c", "while :; do echo .; sleep 0.2; done", limits={"idle_seconds": 1}
    )
    order = await rig.launch("/bin/cat", limits={"idle_seconds": 1})
    async with rig.client(order) as client:
        await client.say(term.Ping(1))
        assert await client.until_closed() == (4410, "idle")
    assert rig.server.runner.host.find(busy.terminal, busy.instance).live  # type: ignore[union-attr]


async def test_too_much_output_ends_it(rig: Rig) -> None:
    order = await rig.launch("/usr/bin/yes", limits={"output_bytes": 100_000})
    ended = (await rig.plane.until(order.instance, "ended")).ended

    assert ended.ending == "output_limit"
    assert 100_000 < ended.output_bytes < 1_000_000


async def test_input_that_is_recorded_counts_as_output_does(rig: Rig) -> None:
    order = await rig.launch(
        "sh", "-c", "stty raw -echo; echo reads; cat >/dev/null",
        record_input=True, limits={"output_bytes": 1_000_000},
    )  # fmt: skip
    async with rig.client(order) as dana:
        await dana.until("reads")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                await dana.say(term.Input(b"x" * 50_000))
                await asyncio.sleep(0.01)
            await dana.until_closed()
    ended = (await rig.plane.until(order.instance, "ended")).ended
    assert ended.ending == "output_limit"


async def test_nothing_is_left_of_a_group_of_processes(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "sleep 987 & sleep 987 & wait")
    result = await rig.order(EndOrder(**names(order), why="revoked"))
    assert result.type == "gone"
    assert (result.existed, result.gone, result.ended and result.ended.ending) == (
        True,
        True,
        "revoked",
    )
    again = await rig.order(EndOrder(**names(order), why="expired"))
    assert again.type == "gone"
    assert again.ended == result.ended


async def test_a_prompt_is_typed_when_the_command_has_begun(rig: Rig) -> None:
    order = await rig.launch(
        "/bin/sh", "-c", "echo ready; read a; read b; echo [$a][$b]", prompt="one\ntwo"
    )
    async with rig.client(order) as client:
        await client.until("[one][two]")


async def test_programs_type_wait_and_read_the_screen(rig: Rig) -> None:
    order = await rig.launch(
        "/bin/sh", "-c", "read a; echo; printf 'got \\033[1m%s\\033[0m done' $a; sleep 60"
    )
    waiting = asyncio.create_task(
        rig.order(WaitOrder(**names(order), text="got 42 done", seconds=10))
    )
    await asyncio.sleep(0.1)
    await rig.order(InputOrder(**names(order), data="42\r"))
    found = await waiting
    assert found.type == "done"
    assert found.found
    screen = await rig.order(ScreenOrder(**names(order)))
    assert screen.type == "screen"
    assert any("got 42 done" in line for line in screen.lines)
    missing = await rig.order(WaitOrder(**names(order), text="never", seconds=0.2))
    assert missing.type == "done"
    assert not missing.found
