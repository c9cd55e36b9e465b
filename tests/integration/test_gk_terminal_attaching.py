"""Attaching to a terminal, against a gateway that pulls cables, refuses and says strange things."""

import asyncio
import http
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gatekeeper.client import attaching
from gatekeeper.client.api import ApiError
from gatekeeper.client.attaching import Attaching, Closed
from gatekeeper.client.following import Following
from gatekeeper.kernel.errors import GatekeeperError, UnavailableError
from gatekeeper.kernel.terminal.term import (
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    Attach,
    Exit,
    Hello,
    Input,
    Mode,
    Notice,
    Output,
    Screen,
    encode,
    read_client,
)
from gatekeeper.wire.terminals import TicketView

Handler = Callable[[ServerConnection, int], Awaitable[None]]


@dataclass
class Face:
    drawn: bytes = b""
    notes: list[str] = field(default_factory=list)

    async def draw(self, data: bytes) -> None:
        self.drawn += data

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Gateway:
    """Counts connections, and keeps what each was asked with."""

    handler: Handler
    refusals: list[Response] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    tickets: int = 0
    port: int = 0

    async def ticket(self) -> TicketView:
        self.tickets += 1
        return TicketView(
            url=f"ws://127.0.0.1:{self.port}/attach/trm_x", ticket=f"a.b.{self.tickets}",
            mode="write", expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        )  # fmt: skip

    async def refuse(self, _socket: ServerConnection, request: Request) -> Response | None:
        self.asked.append(request)
        return self.refusals.pop(0) if self.refusals else None

    async def serve(self, socket: ServerConnection) -> None:
        await self.handler(socket, len(self.asked))


@asynccontextmanager
async def gateway(handler: Handler, *refusals: Response) -> AsyncIterator[Gateway]:
    found = Gateway(handler, list(refusals))
    async with serve(
        found.serve, "127.0.0.1", 0, process_request=found.refuse,
        subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None,
    ) as server:  # fmt: skip
        found.port = next(iter(server.sockets)).getsockname()[1]
        yield found


def refusal(status: int, code: str, *, retryable: bool, after: str | None = None) -> Response:
    problem = {
        "type": "about:blank", "title": "no", "status": status, "code": code, "detail": f"why {code}",
        "correlationId": "c", "retryable": retryable,
    }  # fmt: skip
    body = json.dumps(problem).encode()
    headers = Headers({"Content-Length": str(len(body))})
    if after is not None:
        headers["Retry-After"] = after
    return Response(status, http.HTTPStatus(status).phrase, headers, body)


def hello(offset: int) -> str | bytes:
    return encode(
        Hello(
            terminal="trm_x", instance="i", mode=Mode.WRITE, offset=offset, columns=80, rows=24,
            holder="dana", mine=True, expires_in=60.0, recorded=True,
        )
    )  # fmt: skip


async def begun(socket: ServerConnection) -> Attach:
    attach = read_client(await socket.recv())
    assert isinstance(attach, Attach)
    await socket.send(hello(attach.offset or 0))
    return attach


async def followed(found: Gateway, face: Face, *typed: bytes) -> tuple[Closed, Following]:
    following = Following(Mode.WRITE)
    attach = Attaching(following, face, found.ticket)
    attach.outbox.put(*(Input(data) for data in typed))
    async with asyncio.timeout(20):
        return await attach.run(), following


async def ends(socket: ServerConnection, _number: int) -> None:
    await begun(socket)
    await socket.send(encode(Exit(ending="exited", code=3)))
    await socket.close(4000, "exit 3")


async def test_a_screen_may_be_as_large_as_a_message() -> None:
    drawing = b"x" * (MAX_MESSAGE_BYTES - len(encode(Screen(0, b""))))

    async def handler(socket: ServerConnection, _number: int) -> None:
        await begun(socket)
        await socket.send(encode(Screen(7, drawing)))
        await socket.send(encode(Exit(ending="exited", code=3)))
        await socket.close(4000, "exit 3")

    face = Face()
    async with gateway(handler) as found:
        closed, following = await followed(found, face)

    assert (closed.code, following.offset) == (4000, 7)
    assert face.drawn.endswith(drawing)


async def test_a_cable_pulled_in_the_middle_of_a_flood_loses_and_repeats_nothing() -> None:
    flood = bytes(range(256)) * 8_192
    pulls = 5

    async def handler(socket: ServerConnection, number: int) -> None:
        attach = await begun(socket)
        offset = attach.offset or 0
        stop = len(flood) if number > pulls else offset + 300_000
        while offset < stop:
            data = flood[offset : min(offset + 7_777, len(flood))]
            await socket.send(encode(Output(offset, data)))
            offset += len(data)
        if number <= pulls:
            socket.transport.abort()
            return
        await socket.close(4000, "exit 0")

    face = Face()
    async with gateway(handler) as found:
        closed, _ = await followed(found, face)

    assert closed == Closed(4000, "exit 0")
    assert face.drawn == flood
    assert found.tickets == len(found.asked) == pulls + 1


async def test_the_ticket_travels_in_no_address_and_its_command_ends_it() -> None:
    async with gateway(ends) as found:
        closed, following = await followed(found, Face())

    assert closed == Closed(4000, "exit 3")
    assert following.exit == Exit(ending="exited", code=3)
    (request,) = found.asked
    assert request.path == "/attach/trm_x"
    assert request.headers["Sec-WebSocket-Protocol"] == "gk.term.v1, ticket.a.b.1"
    assert "Origin" not in request.headers


async def test_what_was_typed_while_it_was_away_is_typed_when_it_is_back() -> None:
    heard: list[bytes] = []

    async def handler(socket: ServerConnection, number: int) -> None:
        if number == 1:
            socket.transport.abort()
            return
        await begun(socket)
        async for message in socket:
            said = read_client(message)
            assert isinstance(said, Input)
            heard.append(said.data)
            if said.data == b"two":
                await socket.close(4000, "exit 0")

    async with gateway(handler) as found:
        await followed(found, Face(), b"one", b"two")

    assert heard == [b"one", b"two"]


async def test_what_could_not_be_sent_is_not_lost_with_its_connection() -> None:
    class Pulled:
        sent: list[str | bytes] = []  # noqa: RUF012  # one of it

        async def send(self, message: str | bytes) -> None:
            if len(self.sent) == 2:  # what to attach to, and the first input
                raise ConnectionClosedError(None, None)
            self.sent.append(message)

    async def no_ticket() -> TicketView:
        raise AssertionError

    attach = Attaching(Following(Mode.WRITE), Face(), no_ticket)
    attach.outbox.put(Input(b"one"), Input(b"two"))
    with pytest.raises(ConnectionClosedError):
        await attach._talk(Pulled())  # type: ignore[arg-type]

    async with asyncio.timeout(5):
        assert await attach.outbox.first() == Input(b"two")


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
async def test_a_gateway_that_goes_away_is_come_back_to(code: int) -> None:
    async def handler(socket: ServerConnection, number: int) -> None:
        await begun(socket)
        await socket.close(code if number == 1 else 4000, "drains")

    async with gateway(handler) as found:
        closed, _ = await followed(found, Face())

    assert (closed.code, found.tickets) == (4000, 2)


@pytest.mark.parametrize("code", [1000, 1002, 1009, 4000, 4401, 4403, 4408, 4409, 4410, 4502])
async def test_every_other_close_is_the_last_word(code: int) -> None:
    async def handler(socket: ServerConnection, _number: int) -> None:
        await begun(socket)
        await socket.close(code, "because")

    async with gateway(handler) as found:
        closed, _ = await followed(found, Face())

    assert closed == Closed(code, "because")
    assert found.tickets == 1


async def test_a_refusal_that_passes_is_waited_for_as_long_as_it_says() -> None:
    loop = asyncio.get_running_loop()
    async with gateway(
        ends, refusal(503, "RUNNER_UNREACHABLE", retryable=True, after="1"),
        refusal(401, "TICKET_REFUSED", retryable=False),
    ) as found:  # fmt: skip
        began = loop.time()
        await followed(found, Face())

    assert loop.time() - began > 1
    assert found.tickets == 3


async def test_a_refusal_that_stays_is_told() -> None:
    async with gateway(ends, refusal(403, "POLICY_DENIED", retryable=False)) as found:
        with pytest.raises(ApiError, match="why POLICY_DENIED"):
            await followed(found, Face())
    async with gateway(
        ends, *[refusal(401, "TICKET_REFUSED", retryable=False) for _ in range(3)]
    ) as found:
        with pytest.raises(UnavailableError, match="why TICKET_REFUSED"):
            await followed(found, Face())


async def test_what_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "PATIENCE_SECONDS", 0.5)
    async with gateway(ends) as found:
        found.port = 9
        face = Face()
        with pytest.raises(UnavailableError, match="does not answer"):
            await followed(found, face)


async def test_a_ticket_is_not_carried_to_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "PATIENCE_SECONDS", 0.2)
    async with gateway(ends) as elsewhere:
        moved = Headers(Location=f"ws://127.0.0.1:{elsewhere.port}/", **{"Content-Length": "0"})
        redirects = [Response(302, "Found", moved) for _ in range(20)]
        async with gateway(ends, *redirects) as found:
            with pytest.raises(UnavailableError, match="302"):
                await followed(found, Face())

    assert elsewhere.asked == []


@pytest.mark.parametrize("nonsense", [b"", b"\x09123456789", "not json", "[]", '{"type":"hello"}'])
async def test_nonsense_ends_it_with_words(nonsense: Any) -> None:
    async def handler(socket: ServerConnection, _number: int) -> None:
        await begun(socket)
        await socket.send(nonsense)
        await socket.wait_closed()

    async with gateway(handler) as found:
        with pytest.raises(GatekeeperError, match="speaks something else"):
            await followed(found, Face())


async def test_what_is_new_in_a_later_server_is_passed_over() -> None:
    async def handler(socket: ServerConnection, _number: int) -> None:
        await begun(socket)
        await socket.send('{"type":"hologram","x":1}')
        await socket.send(encode(Notice(text="hello")))
        await socket.close(4000, "exit 0")

    face = Face()
    async with gateway(handler) as found:
        await followed(found, face)

    assert face.notes == ["hello"]
