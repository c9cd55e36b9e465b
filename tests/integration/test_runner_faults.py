"""Hostile and unlucky neighbours of a runner: clients, gateways, control planes, disks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from runner_rig import Client, Rig, fresh, random
from runner_rig import names as rig_names
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gatekeeper.kernel.terminal import term
from gatekeeper.kernel.terminal.recording import Segment, check_segments, read_recording
from gatekeeper.terminals.model import Mode
from gatekeeper.terminals.runner import recording
from gatekeeper.terminals.settings import BundleSettings
from gatekeeper.wire.runner import BundleOrder, EndOrder, ScreenOrder, ScreenResult
from waiting import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gatekeeper.wire.runner import LaunchOrder

STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as running:
        yield running


def ending(order: LaunchOrder) -> EndOrder:
    return EndOrder(**rig_names(order), why="revoked")


# What a client may send that no client sends.

NONSENSE: list[Any] = [
    b"", b"\x01", b"\xff" * 10, b"\x00" + b"x" * 65_537, "", "[]", "null", "{", '{"type":"x"}', "x" * 5_000,
    '{"type":"attach"}', '{"type":"ack","offset":-1}', '{"type":"ack","offset":9007199254740991}',
    '{"type":"resize","columns":0,"rows":1}', '{"type":"resize","columns":1e9,"rows":1}', "[" * 4_000,
]  # fmt: skip


async def test_nonsense_closes_its_own_socket_only(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with rig.client(order) as good:
        for message in NONSENSE:
            async with rig.client(order, subject="eve") as bad:
                await bad.socket.send(message)
                assert (await bad.until_closed())[0] == 1002, message[:20]
        await good.write("still here\r")
        await good.until("still here")


async def test_a_client_that_does_not_begin_with_attach_is_closed(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    for first in (b"\x00ls\r", '{"type":"ping","t":1}', "", b"\x01"):
        async with rig.connect(order) as socket:
            await socket.send(first)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1002


async def test_text_that_is_no_utf8_and_messages_that_are_too_large_are_closed(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with rig.client(order) as client:
        await client.socket.send(b'{"type":"\xff"}', text=True)
        assert (await client.until_closed())[0] in {1006, 1007}
    async with rig.client(order) as client:
        await client.socket.send(b"\x00" * 200_000)
        assert (await client.until_closed())[0] == 1009


async def test_a_message_in_many_frames_is_one_message(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with rig.client(order) as client:
        await client.socket.send([bytes([byte]) for byte in b"\x00abc\r"])
        await client.until("abc")


async def test_a_client_that_stops_reading_is_left_behind_when_the_terminal_ends(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatekeeper.terminals.runner.viewers.LINGER_SECONDS", 0.2)
    monkeypatch.setattr("gatekeeper.terminals.runner.viewers.CLOSE_SECONDS", 0.2)
    order = await rig.launch("/usr/bin/yes")
    async with rig.client(order) as client:
        client.socket.transport.pause_reading()
        await asyncio.sleep(0.3)
        await rig.order(ending(order))
        session = rig.server.runner.host.sessions[0]
        async with asyncio.timeout(5):
            while session.stream.watchers:
                await asyncio.sleep(0.05)
        client.socket.transport.resume_reading()
        client.socket.transport.abort()


async def test_input_that_nobody_reads_is_dropped_and_told_of(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "stty raw; echo ready; sleep 60")
    async with rig.client(order) as client:
        await client.until("ready")
        for _ in range(8):
            await client.write("x" * 65_000)
        await client.until_said(term.Notice)
        await client.say(term.Ping(1))
        await client.until_said(term.Pong)


async def test_an_end_of_input_after_the_end_is_no_news_and_all_else_is(rig: Rig) -> None:
    # It floods, and the client acknowledges nothing: so it still is there when the command is not.
    order = await rig.launch("/usr/bin/yes", "x" * 4_000)
    async with rig.client(order) as client:
        client.acks = False
        while len(client.output) < term.WINDOW_BYTES:
            await client.hear()
        await rig.order(ending(order))
        for typed in ("\x04", "\n\x04"):
            await client.write(typed)
        await client.say(term.Ping(1))
        await client.until_said(term.Pong)
        assert [said for said in client.said if isinstance(said, term.Notice)] == []
        await client.write("ls\n")
        assert "has ended" in (await client.until_said(term.Notice)).text


# Clients of ttyd: what its page sends, in its order.


async def tty(rig: Rig, order: LaunchOrder, *messages: bytes | str, **changes: Any) -> Any:
    socket = await rig.connect(order, protocol="tty", **changes)
    for message in messages:
        await socket.send(message)
    return socket


async def hear_until(socket: Any, text: bytes) -> bytes:
    heard = b""
    async with asyncio.timeout(10):
        while text not in heard:
            message = await socket.recv()
            if message[:1] == b"0":
                heard += message[1:]
    return heard


START = '{"AuthToken":"","columns":100,"rows":30}'


async def test_a_client_of_ttyd_has_title_preferences_and_its_size(rig: Rig) -> None:
    order = await rig.launch("/bin/sh")
    socket = await tty(rig, order, START, b"0stty size\r")
    assert (await socket.recv())[:1] == b"1"
    assert await socket.recv() == b"2{}"
    await hear_until(socket, b"30 100")
    await socket.send(b'1{"columns":90,"rows":20}')
    await socket.send(b"0stty size; exit 3\r")
    await hear_until(socket, b"20 90")
    with pytest.raises(ConnectionClosed):
        await hear_until(socket, b"never")
    assert (socket.close_code, socket.close_reason) == (4000, "exit 3")


async def test_a_client_of_ttyd_pauses_and_goes_on(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "read go; yes")
    socket = await tty(rig, order, b'1{"columns":90,"rows":20}', b"3", START.encode(), b"0\r")
    await hear_until(socket, b"y\r\ny")
    await socket.send(b"2")
    session = rig.server.runner.host.sessions[0]
    async with asyncio.timeout(5):
        while not session.stream.sharing.viewers[0].paused:
            await asyncio.sleep(0.01)
    await settled(lambda: session.stream.written)  # its window is full: the command waits
    await socket.send(b"3")
    got = 0
    while got < 2 * term.WINDOW_BYTES:
        got += len(await socket.recv())
    await socket.close()


@pytest.mark.parametrize("first", [b"0ls\r", b"9", "hello", b"\xff\xfe"])
async def test_a_client_of_ttyd_that_begins_wrongly_is_closed(rig: Rig, first: bytes | str) -> None:
    order = await rig.launch("/bin/cat")
    socket = await tty(rig, order, first)
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    assert socket.close_code == 1002


async def test_a_client_of_ttyd_that_loses_the_input_is_told_to_go(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    socket = await tty(rig, order, START, b"0mine\r")
    await hear_until(socket, b"mine")
    async with rig.client(order, subject="olga", mode=Mode.MODERATE) as olga:
        await olga.say(term.Take())
        with pytest.raises(ConnectionClosed):
            await hear_until(socket, b"never")
    assert socket.close_code == 4409


# Gateways: only what one signed, once, for this launch.


async def refusal(rig: Rig, order: LaunchOrder, **changes: Any) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with rig.connect(order, **changes):
            pass
    return refused.value.response.status_code


async def test_only_a_fresh_attachment_for_this_launch_is_let_in(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    assert await refusal(rig, order, key=b"x" * 32) == 401
    assert await refusal(rig, order, header="x") == 401
    assert await refusal(rig, order, header="." * 3_000) == 401
    assert await refusal(rig, order, at=1_700_000_000) == 401
    assert await refusal(rig, order, terminal=fresh("terminal")) == 401
    assert await refusal(rig, order, instance=fresh("instance")) == 404
    used = rig.header(order)
    async with rig.connect(order, header=used) as socket:
        await socket.send(term.encode_client(term.Attach()))
        await socket.recv()
    assert await refusal(rig, order, header=used) == 401
    assert await refusal(rig, order, protocol="chat") == 422


# Control planes: only what one signed, once.


async def test_orders_of_strangers_and_orders_seen_before_are_refused(rig: Rig) -> None:
    order = rig.launch_order("/bin/cat")
    assert (await rig.post(rig.sealed(order, key=STRANGER))).status_code == 502
    assert (await rig.post(rig.sealed(order, audience="other"))).status_code == 502
    assert (await rig.post("x")).status_code == 502
    assert (await rig.post("x" * 200_000)).status_code == 413
    envelope = rig.sealed(order)
    assert (await rig.post(envelope)).status_code == 200
    assert (await rig.post(envelope)).status_code == 502
    assert len(rig.sandbox.started) == 1


async def test_a_launch_told_twice_starts_one_terminal(rig: Rig) -> None:
    order = rig.launch_order("/bin/cat")
    results = await asyncio.gather(rig.order(order), rig.order(order))

    assert sorted(result.already for result in results) == [False, True]  # type: ignore[union-attr]
    assert len(rig.sandbox.started) == 1


async def test_what_was_ended_is_never_started_again_not_even_after_a_restart(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    unknown = rig.launch_order("/bin/cat")
    for one in (order, unknown):
        result = await rig.order(ending(one))
        assert result.type == "gone"
        assert result.existed == (one is order)
        assert (await rig.order(one)).type == "failed"
    again = rig.launch_order("/bin/cat", terminal=order.terminal)
    assert (await rig.order(again)).type == "failed"
    await rig.stop()
    for segment in rig.settings.recordings.glob("*/*"):
        segment.unlink()  # by whoever keeps them no longer; the folder says that it was here
    await rig.start()
    refused = await rig.order(again)
    assert refused.type == "failed"
    assert not refused.retryable


async def test_a_launch_that_failed_may_be_tried_again(rig: Rig) -> None:
    rig.sandbox.refuses = True
    order = rig.launch_order("/bin/cat")
    failed = await rig.order(order)
    assert failed.type == "failed"
    assert failed.code == "SANDBOX_UNAVAILABLE"
    rig.sandbox.refuses = False
    assert (await rig.order(order)).type == "launched"


async def test_a_full_runner_says_so() -> None:
    async with Rig(capacity=1) as rig:
        order = await rig.launch("/bin/cat")
        full = await rig.order(rig.launch_order("/bin/cat"))
        assert full.type == "failed"
        assert full.retryable
        await rig.order(ending(order))
        await rig.launch("/bin/cat")


async def test_a_bundle_that_is_refused_says_so_in_the_terminal(rig: Rig) -> None:
    bundle = BundleOrder(url="https://nowhere.test/x.zip", sha256="0" * 64, install=())
    order = await rig.launch("/bin/cat", bundle=bundle)
    ended = (await rig.plane.until(order.instance, "ended")).ended

    assert ended.ending == "bundle_refused"
    assert "refused" in ended.last_screen


async def test_a_bundle_is_fetched_installed_in_view_and_run() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("install.sh", "echo installing; echo yes > installed")
        file.writestr("run.sh", "echo it is installed: $(cat installed); exit 4")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        data = archive.getvalue()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nContent-Length: {len(data)}"
        writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    allowed = BundleSettings(allowed_hosts=(f"127.0.0.1:{port}",), allow_http_on_loopback=True)
    async with server, Rig(bundles=allowed) as rig:
        bundle = BundleOrder(
            url=f"http://127.0.0.1:{port}/cli.zip",
            sha256=hashlib.sha256(archive.getvalue()).hexdigest(),
            install=("/bin/sh", "install.sh"),
        )
        order = await rig.launch("/bin/sh", "run.sh", bundle=bundle)
        async with rig.client(order) as client:
            assert await client.until_closed() == (4000, "exit 4")
        ended = (await rig.plane.until(order.instance, "ended")).ended
        stages = [event.stage for event in rig.plane.of(order.instance, "stage")]
        assert stages == ["started", "fetched", "verified", "installed", "first_byte"]
        assert "installing" in ended.last_screen
        assert "it is installed: yes" in ended.last_screen

        failing = bundle.model_copy(update={"install": ("/bin/sh", "-c", "exit 9")})
        order = await rig.launch("/bin/sh", "run.sh", bundle=failing)
        ended = (await rig.plane.until(order.instance, "ended")).ended
        assert (ended.ending, ended.exit_code) == ("install_failed", 9)


# Reports.


async def test_what_happened_while_the_control_plane_was_away_is_told_afterwards(rig: Rig) -> None:
    rig.plane.away = True
    order = await rig.launch("/bin/sh", "-c", "echo hello; exit 3")
    async with rig.client(order) as client:
        await client.until_closed()
    await asyncio.sleep(0.3)
    assert not rig.plane.reports or not rig.plane.of(order.instance, "ended")
    rig.plane.away = False
    rig.server.runner.reporter.wake()
    ended = (await rig.plane.until(order.instance, "ended")).ended

    assert ended.exit_code == 3
    stages = [event.stage for event in rig.plane.of(order.instance, "stage")]
    assert stages == ["started", "first_byte"]
    attached = rig.plane.of(order.instance, "attached")
    assert [(one.subject, one.mode, one.protocol) for one in attached] == [
        ("dana", "write", "gk.term.v1")
    ]


async def test_what_the_control_plane_does_not_want_is_ended(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    rig.plane.ends.add(order.instance)
    rig.server.runner.reporter.wake()

    assert (await rig.plane.until(order.instance, "ended")).ended.ending == "revoked"


async def test_each_life_of_the_runner_has_a_name_of_its_own(rig: Rig) -> None:
    async with asyncio.timeout(10):
        while not rig.plane.reports:
            await asyncio.sleep(0.01)
        first = rig.plane.reports[-1].boot
        leftover = rig.settings.folder / "work" / "old"
        await rig.stop()
        leftover.mkdir()
        await rig.start()
        while rig.plane.reports[-1].boot == first:
            await asyncio.sleep(0.01)
    assert not leftover.exists()


async def test_a_runner_that_stops_tells_clients_and_the_control_plane(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    async with rig.client(order) as client:
        await rig.stop()
        assert (await client.until_closed())[0] == 1012
    assert rig.plane.of(order.instance, "ended")[-1].ended.ending == "runner_lost"
    await rig.start()


async def test_it_says_what_it_holds_and_counts(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "echo x; exit 1")
    await rig.launch("/bin/cat")
    await rig.plane.until(order.instance, "ended")
    transport = httpx.AsyncHTTPTransport(uds=rig.path)
    async with httpx.AsyncClient(transport=transport, base_url="http://runner") as client:
        ready = (await client.get("/readyz")).json()
        metrics = (await client.get("/metrics")).text
    assert (ready["sandbox"], ready["terminals"], ready["capacity"]) == ("none", 1, 100)
    for line in ("terminals 1.0", "launches_total 2.0", 'ends_total{ending="exited"} 1.0'):
        assert f"gatekeeper_runner_{line}\n" in metrics


# Recordings.


def segments(rig: Rig, order: LaunchOrder) -> Sequence[Segment]:
    return [
        Segment(number=event.number, bytes=event.bytes, head=event.head)
        for event in rig.plane.of(order.instance, "segment")
    ]


async def test_a_recording_is_the_output_and_is_held_by_the_heads_that_were_told() -> None:
    async with Rig(redact=("hunter2!",)) as rig:
        order = await rig.launch(
            "/bin/sh", "-c", "read a; seq 1 100000; printf 'my hun'; sleep 0.1; echo 'ter2! 日本'"
        )
        async with rig.client(order) as client:
            await client.write("secret\r")
            await client.say(term.Resize(90, 20))
            await client.until_closed()
        ended = (await rig.plane.until(order.instance, "ended")).ended
        data = b"".join(rig.recording(order))
        told = segments(rig, order)
    assert check_segments(io.BytesIO(data), told) is None
    assert (told[-1].head, sum(one.bytes for one in told)) == (
        ended.recording_head,
        ended.recording_bytes,
    )
    header, events = read_recording(io.BytesIO(data))
    events = list(events)  # type: ignore[assignment]
    assert (header.columns, header.rows) == (80, 24)
    output = "".join(event.data for event in events if event.code == "o")
    assert output == client.output.decode().replace("hunter2!", "[redacted]")
    assert [event.data for event in events if event.code == "r"] == ["90x20"]
    assert [event.data for event in events if event.code == "x"] == ["0"]
    assert not [event for event in events if event.code == "i"]


async def test_a_secret_in_colours_over_two_rows_is_seen_by_viewers_and_kept_nowhere() -> None:
    coloured = "".join(f"\\033[3{number % 8}m{char}" for number, char in enumerate("hunter2!"))
    async with Rig(redact=("hunter2!",)) as rig:
        order = await rig.launch(
            "/bin/sh", "-c", f"printf '{'x' * 77}hunter2! {coloured}\\033[0m.'; read a"
        )
        async with rig.client(order) as client:
            await client.until("\x1b[0m.")
            asked = await rig.order(ScreenOrder(**rig_names(order)))
            await client.write("\r")
            await client.until_closed()
        ended = (await rig.plane.until(order.instance, "ended")).ended
        data = b"".join(rig.recording(order))
    assert "hunter2!" in client.output.decode()
    assert isinstance(asked, ScreenResult)
    assert asked.lines[:2] == (f"{'x' * 77}[redacted]", " [redacted].")
    assert ended.last_screen == "\n".join(asked.lines).rstrip()
    _, events = read_recording(io.BytesIO(data))
    output = "".join(event.data for event in events if event.code == "o")
    colours = "".join(f"\x1b[3{number % 8}m" for number in range(1, 8))
    assert output.startswith(f"{'x' * 77}[redacted] \x1b[30m[redacted]{colours}\x1b[0m.")


async def test_a_secret_that_a_shell_echoes_over_two_rows_is_not_recorded() -> None:
    """readline goes to the next row by a blank and a carriage return."""
    async with Rig(redact=("hunter2!",)) as rig:
        order = await rig.launch("/bin/sh", "-c", "PS1='> ' exec bash --norc")
        async with rig.client(order) as client:
            await client.until("> ")
            for char in ": " + "x" * 73 + "hunter2!":
                before = client.offset
                await client.write(char)
                while client.offset == before:
                    await client.hear()
            await client.write("\rexit\r")
            await client.until_closed()
        ended = (await rig.plane.until(order.instance, "ended")).ended
        data = b"".join(rig.recording(order))
    assert " \r" in client.output.decode()
    assert "hunter2!" in client.output.decode().replace(" \r", "")
    _, events = read_recording(io.BytesIO(data))
    output = "".join(event.data for event in events if event.code == "o")
    assert "hunter2!" not in output.replace(" \r", "")
    assert "x[redacted]" in output
    assert "x[redacted]" in ended.last_screen


async def test_input_is_recorded_only_where_that_is_asked_for(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "read a", record_input=True)
    async with rig.client(order) as client:
        await client.write("typed\r")
        await client.until_closed()
    await rig.plane.until(order.instance, "ended")
    _, events = read_recording(io.BytesIO(b"".join(rig.recording(order))))

    assert [event.data for event in events if event.code == "i"] == ["typed\r"]


async def test_what_cannot_be_recorded_does_not_go_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    order = await rig.launch("/bin/cat")
    monkeypatch.setattr(recording.SegmentFiles, "write", full)
    async with rig.client(order) as client:
        await client.write("x\r")
        assert (await client.until_closed())[1] == "recording_failed"
    assert (await rig.plane.until(order.instance, "ended")).ended.ending == "recording_failed"


async def test_files_and_socket_are_its_owners_alone(rig: Rig) -> None:
    order = await rig.launch("/bin/sh", "-c", "echo x")
    await rig.plane.until(order.instance, "ended")
    paths = [
        rig.settings.folder,
        rig.settings.attach_key_file,
        *(rig.settings.recordings / order.terminal).iterdir(),
    ]
    assert stat.S_IMODE(Path(rig.path).stat().st_mode) == 0o600  # noqa: ASYNC240
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert list((rig.settings.folder / "work").iterdir()) == []


async def test_a_thousand_clients_with_bad_attachments_cost_nobody_the_terminal(rig: Rig) -> None:
    order = await rig.launch("/bin/cat")
    key = random.bytes(32)
    for _ in range(4):
        assert set(await asyncio.gather(*(refusal(rig, order, key=key) for _ in range(50)))) == {
            401
        }
    async with rig.client(order) as client:
        assert isinstance(client, Client)
        await client.write("alive\r")
        await client.until("alive")
