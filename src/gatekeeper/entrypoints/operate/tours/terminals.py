"""The tour of terminals: a command in a sandbox of its own, gone at its deadline, and the proof."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gatekeeper.bootstrap.settings import CONTROL_PLANE_PORT
from gatekeeper.client import tokens
from gatekeeper.client.sequences import Text
from gatekeeper.entrypoints.operate.stack import Stack
from gatekeeper.entrypoints.operate.tours.telling import (
    Tour,
    TourError,
    must,
    report,
    say,
    scene,
    show,
)
from gatekeeper.kernel.terminal.term import (
    SUBPROTOCOL,
    Attach,
    Hello,
    Input,
    Output,
    encode_client,
    read_runner,
)
from gatekeeper.platform.processes.listening import free_port

if TYPE_CHECKING:
    from pathlib import Path

TTL_SECONDS: Final = 4
ANSWER_SECONDS: Final = 10.0
PLAYED_LINES: Final = 6

LOOKING_OUT: Final = """\
echo "I am $(id -un), with $(ls -d /proc/[0-9]* | wc -l) processes to be seen"
ls {keys} 2>&1 | tail -1
( exec 3<>/dev/tcp/127.0.0.1/{port} ) 2>&1 | tail -1
touch /usr/bin/mine 2>&1 | tail -1
exit 7
"""
"""What a command tries from inside: this machine's processes, keys, network and programs."""


async def tour_of_terminals(home: Path) -> None:
    say("Gatekeeper: a terminal in a sandbox of its own, and the proof of what was done in it.\n")
    port = free_port()
    stack = Stack(
        home / "stack", port=port, agent_port=free_port(), gateway_port=free_port(), report=report
    )
    async with stack:
        if stack.without_terminals is not None:
            raise TourError(stack.without_terminals)
        tour = _Terminals(home, stack)
        await tour.log_in(
            "dana", "Dana logs in. (The demo plays her browser and confirms the code.)"
        )
        terminal = await tour.create()
        await tour.attach_by_ticket(terminal)
        await tour.look_out(port)
        recording = await tour.replay(terminal)
        await tour.pass_the_deadline()
        await tour.verify(terminal, recording)
        say("\nStopping everything.")
    say("\nIn the browser it looks like this: run `gk up`, open")
    say(f"  http://127.0.0.1:{CONTROL_PLANE_PORT}/console, sign in as dana, press start.")


class _Terminals(Tour):
    """Each method is one scene; commands are the ones a user would type."""

    async def create(self) -> str:
        scene("She asks for a terminal. The policy says yes, for an hour at most.")
        text = await self.gk(
            *("terminal", "create", "--ttl", "10m", "--reason", "tour", "--json"),
            *("--", "bash", "--norc"),
        )
        view: dict[str, Any] = json.loads(text)
        say(f"  terminal {view['terminalId']} is {view['status']}, held by {view['sandbox']}")
        return str(view["terminalId"])

    async def attach_by_ticket(self, terminal: str) -> None:
        scene("Her client gets a ticket, and attaches with it: client, gateway, runner, sandbox.")
        ticket = await self._ticket(terminal)
        say(f"  ticket {ticket['ticket'][:24]}… for {ticket['url']}")
        async with _opened(ticket) as socket:
            await socket.send(encode_client(Attach(0, 80, 24)))
            await socket.send(encode_client(Input(b"echo $((6 * 7)) is the answer\n")))
            heard = await asyncio.wait_for(_until(socket, b"42 is the answer"), ANSWER_SECONDS)
        show(Text().feed(heard))
        say("\n  The same ticket once more:")
        try:
            async with _opened(ticket):
                pass
        except InvalidStatus as refused:
            problem = json.loads(bytes(refused.response.body or b"{}"))
            say(f"    {refused.response.status_code}: {problem.get('detail')}")
        else:
            must(condition=False, otherwise="a ticket was taken twice")

    async def look_out(self, port: int) -> None:
        scene("What a command sees of this machine, and what its exit code is.")
        script = self.home / "look-out"
        script.write_text(LOOKING_OUT.format(keys=self.stack.home / "keys", port=port))
        say('  $ gk shell -- bash -c "$(cat look-out)"')
        show(script.read_bytes().replace(str(self.home).encode() + b"/", b""), mark="| ")
        process = await self.start("shell", "--", "bash", "-c", script.read_text(), quiet=True)
        stdout, stderr = await process.communicate()
        show(stdout + stderr)
        must(process.returncode == 7, f"gk shell ended with {process.returncode}, not with 7")  # noqa: PLR2004
        said = stdout.decode()
        must("No such file" in said and "attach.key" not in said, "the sandbox shows this machine")
        must("refused" in said or "unreachable" in said, "the sandbox reaches the network")
        say("  exit code 7: the command's own")

    async def replay(self, terminal: str) -> Path:
        scene("The first terminal is ended; what was done in it was recorded.")
        await self.gk("terminal", "stop", terminal, echo=True)
        recording = self.home / "session.cast"
        await self.gk("terminal", "download", terminal, "-o", str(recording), echo=True)
        said = await self.gk("terminal", "play", str(recording))
        show(said.encode(), PLAYED_LINES)
        must("42 is the answer" in said, "the recording does not hold what was shown")
        return recording

    async def pass_the_deadline(self) -> None:
        scene(f"A second one, for {TTL_SECONDS} seconds. Nobody ends it.")
        began = time.monotonic()
        counting = "while :; do echo still here; sleep 1; done"
        process = await self.start(
            "shell", "--ttl", f"{TTL_SECONDS}s", "--reason", "tour", "--", "sh", "-c", counting
        )
        stdout, stderr = await process.communicate()
        show(stdout + stderr)
        must("its time was over" in stderr.decode(), "the terminal outlived its time")
        say(f"  gone after {time.monotonic() - began:.1f} s")
        text = await self.gk("terminal", "list", "--all", "--json")
        statuses = {item["status"] for item in json.loads(text)["items"]}
        say(f"  Gatekeeper calls all of them: {', '.join(sorted(statuses))} (proven gone)")
        must(statuses == {"cleaned"}, "not every terminal is gone")

    async def verify(self, terminal: str, recording: Path) -> None:
        await self.log_in("olga", "Olga, an operator, holds the recording against the evidence.")
        whose = ("--terminal", terminal)
        await self.gk("audit", "verify", "--recording", str(recording), *whose, echo=True)
        say("\n  Now one letter of a copy is changed:")
        copy = self.home / "copy.cast"
        _change_one_letter(recording, copy)
        process = await self.start("audit", "verify", "--recording", str(copy), *whose)
        stdout, _stderr = await process.communicate()
        show(stdout)
        must(process.returncode == 1, "a changed recording was not noticed")

    async def _ticket(self, terminal: str) -> dict[str, Any]:
        found = tokens.load(self.home / "dana", self.stack.url)
        must(found is not None, "dana is not logged in")
        assert found is not None  # noqa: S101  # for the type checker
        headers = {"Authorization": f"Bearer {found.identity.reveal()}"}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
            answer = await client.post(f"{self.stack.url}/terminals/{terminal}/attach", json={})
        must(answer.is_success, f"no ticket: {answer.text}")
        ticket: dict[str, Any] = answer.json()
        return ticket


def _opened(ticket: dict[str, Any]) -> connect:
    offered = [Subprotocol(SUBPROTOCOL), Subprotocol(f"ticket.{ticket['ticket']}")]
    return connect(ticket["url"], subprotocols=offered, compression=None, proxy=None)


def _change_one_letter(recording: Path, copy: Path) -> None:
    copy.write_bytes(recording.read_bytes().replace(b"42 is the", b"43 is the", 1))


async def _until(socket: Any, wanted: bytes) -> bytes:  # noqa: ANN401  # a connection of websockets
    heard = b""
    while wanted not in heard:
        match read_runner(await socket.recv()):
            case Output(_, data):
                heard += data
            case Hello(holder=holder, expires_in=seconds):
                say(f"    {holder} has the input; {seconds / 60:.0f} minutes to live")
            case _:
                pass
    return heard
