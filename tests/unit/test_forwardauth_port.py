"""The decision port's protocol, in this process: bytes in, bytes out, with a fake decider."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from factories.hostile_requests import CHUNKED, GET, POST, REFUSED
from fakes.transport import FakeTransport
from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.web.limits import Limits
from gatekeeper.forwardauth.web.port import DecisionProtocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ALLOW = Reply(200, (), b"")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
OK_CLOSE = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
PATIENCE = 20.0


class Port:
    """One connection to a port with a decider that is told what to say."""

    def __init__(
        self,
        decide: Callable[[RawRequest], Reply | Awaitable[Reply]] | None = None,
        *,
        limits: Limits | None = None,
        peername: object = ("10.0.0.1", 40000),
        state: ServerState | None = None,
    ) -> None:
        self.asked: list[RawRequest] = []
        self.state = state or ServerState()
        self.transport = FakeTransport(peername)

        def ask(raw: RawRequest) -> Reply | Awaitable[Reply]:
            self.asked.append(raw)
            return ALLOW if decide is None else decide(raw)

        self.protocol = DecisionProtocol(ask, limits=limits or Limits(), server=self.state)
        self.protocol.connection_made(self.transport)

    def say(self, data: bytes) -> bytes:
        """Send bytes, and return what is answered at once."""
        before = len(self.transport.written)
        self.protocol.data_received(data)
        return bytes(self.transport.written[before:])

    async def answered(self, count: int = 1) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while self.transport.written.count(b"HTTP/1.1 ") < count:
                await asyncio.sleep(0)
        return bytes(self.transport.written)

    async def until_closed(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.transport.closed:
                await asyncio.sleep(0.001)


async def test_a_request_is_handed_over_as_it_was_sent() -> None:
    port = Port()
    answer = port.say(
        b"PATCH /a%2Fb?c=%20 HTTP/1.1\r\nHost: X\r\nX-Two: \t b \t\r\nx-two:c\r\nX-Bytes: \xff\r\n"
        b"X-Empty:\r\n\r\n"
    )
    assert answer == OK
    assert port.asked == [
        RawRequest(
            "PATCH",
            b"/a%2Fb?c=%20",
            [
                (b"host", b"X"),
                (b"x-two", b"b"),
                (b"x-two", b"c"),
                (b"x-bytes", b"\xff"),
                (b"x-empty", b""),
            ],
            "10.0.0.1",
        )
    ]


@pytest.mark.parametrize("name", ["", b"", None])
async def test_a_peer_at_a_socket_in_the_file_system_is_called_unix(name: object) -> None:
    port = Port(peername=name)
    port.say(GET)
    assert port.asked[0].peer == "unix"


async def test_a_reply_is_written_whole() -> None:
    port = Port(lambda _: Reply(403, (("x-reason", "é"), ("x-empty", "")), b"no"))
    port.state.default_headers = [(b"date", b"today")]
    assert port.say(GET) == (
        b"HTTP/1.1 403 Forbidden\r\ndate: today\r\nx-reason: \xe9\r\nx-empty: \r\n"
        b"content-length: 2\r\n\r\nno"
    )


async def test_the_date_follows_that_of_the_server() -> None:
    port = Port()
    port.state.default_headers = [(b"date", b"today")]
    assert b"date: today\r\n" in port.say(GET)
    port.state.default_headers = [(b"date", b"tomorrow")]
    assert b"date: tomorrow\r\n" in port.say(GET)


async def test_head_is_answered_without_the_body() -> None:
    port = Port(lambda _: Reply(403, (), b"no"))
    answer = port.say(GET.replace(b"GET", b"HEAD"))
    assert answer == b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_content_has_no_length(status: int) -> None:
    port = Port(lambda _: Reply(status, (), b""))
    assert b"content-length" not in port.say(GET)


async def test_a_request_may_come_one_byte_at_a_time() -> None:
    port = Port()
    request = CHUNKED + b"3\r\nabc\r\n00\r\n\r\n"
    answers = [port.say(bytes([byte])) for byte in request * 2]
    assert [answer for answer in answers if answer] == [OK, OK]


@pytest.mark.parametrize("size", range(1, 60))
async def test_requests_behind_one_another_are_answered_however_they_are_cut(size: int) -> None:
    port = Port(lambda raw: Reply(200, (("x-target", raw.target.decode()),), b""))
    requests = (
        GET
        + POST
        + b"Content-Length: 5\r\n\r\nGET /"
        + CHUNKED.replace(b"/ ", b"/chunked ")
        + b"5;\r\n".replace(b";", b"")
        + b"0\r\n\r\n\r\n0\r\n\r\n"
        + GET.replace(b"/a", b"/last")
    )
    answers = b"".join(
        port.say(requests[start : start + size]) for start in range(0, len(requests), size)
    )
    assert [raw.target for raw in port.asked] == [b"/a?b=c", b"/", b"/chunked", b"/last?b=c"]
    assert answers.count(b"200 OK") == 4


# Decisions that must wait.


async def test_a_decision_that_waits_is_answered_when_it_is_made() -> None:
    made = asyncio.get_running_loop().create_future()
    port = Port(lambda _: made)
    assert port.say(GET) == b""
    assert port.transport.reading  # to hear of a client that goes
    made.set_result(ALLOW)
    assert await port.answered() == OK


async def test_requests_behind_one_that_waits_are_asked_about_in_order() -> None:
    first = asyncio.get_running_loop().create_future()
    port = Port(lambda raw: first if raw.target == b"/1" else Reply(201, (), b""))
    port.say(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3")
    port.say(b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [raw.target for raw in port.asked] == [b"/1"]
    first.set_result(ALLOW)
    written = await port.answered(3)
    assert [raw.target for raw in port.asked] == [b"/1", b"/2", b"/3"]
    assert [line[9:12] for line in written.split(b"\r\n") if line[:4] == b"HTTP"] == [
        b"200",
        b"201",
        b"201",
    ]


async def test_what_waits_behind_a_decision_is_bounded() -> None:
    made = asyncio.get_running_loop().create_future()
    port = Port(lambda raw: made if raw.target == b"/a?b=c" else ALLOW)
    port.say(GET)
    behind = GET.replace(b"/a?b=c", b"/behind") * 2_500
    assert len(behind) > Limits().head_bytes
    port.say(behind)
    assert not port.transport.reading
    made.set_result(ALLOW)
    await port.answered(2_501)
    assert port.transport.reading


async def test_a_client_that_is_gone_cancels_its_decision() -> None:
    made: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    port = Port(lambda _: made)
    port.say(GET)
    await asyncio.sleep(0)
    port.protocol.connection_lost(None)
    async with asyncio.timeout(PATIENCE):
        while not made.cancelled():
            await asyncio.sleep(0)
    assert not port.transport.written
    assert not port.state.connections


# Whatever fails is no allow.


def _raises(_raw: RawRequest) -> Reply:
    msg = "with a secret in its text"
    raise LookupError(msg)


async def _raises_later(_raw: RawRequest) -> Reply:
    await asyncio.sleep(0)
    return _raises(_raw)


async def _is_cancelled(_raw: RawRequest) -> Reply:
    raise asyncio.CancelledError


async def _gives_nothing(_raw: RawRequest) -> Reply:
    return None  # type: ignore[return-value]


FAILURES: dict[str, Callable[[RawRequest], Reply | Awaitable[Reply]]] = {
    "raises": _raises,
    "raises later": _raises_later,
    "is cancelled by somebody else": _is_cancelled,
    "gives nothing": lambda _: None,  # type: ignore[dict-item, return-value]
    "gives nothing later": _gives_nothing,
    "a status that is none": lambda _: Reply(99, (), b""),
    "a status that goes on": lambda _: Reply(101, (), b""),
    "a line break in a value": lambda _: Reply(200, (("x", "a\r\nset-cookie: b"),), b""),
    "a lone line feed": lambda _: Reply(200, (("x", "a\nb"),), b""),
    "a lone return": lambda _: Reply(200, (("x", "a\rb"),), b""),
    "a NUL": lambda _: Reply(200, (("x", "a\0b"),), b""),
    "a line break in a name": lambda _: Reply(200, (("x\r\ny", "a"),), b""),
    "a length of its own": lambda _: Reply(200, (("content-length", "5"),), b""),
    "text for bytes": lambda _: Reply(200, (), "body"),  # type: ignore[arg-type]
    "half of a character": lambda _: Reply(200, (("x", "\ud800"),), b""),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_a_decision_that_fails_is_an_empty_500_and_the_connection_goes_on(
    failure: Callable[[RawRequest], Reply | Awaitable[Reply]],
) -> None:
    port = Port(lambda raw: failure(raw) if raw.target == b"/a?b=c" else ALLOW)
    with capture_logs() as logs:
        port.say(GET)
        failed = await port.answered()
    assert failed == b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
    assert [entry["event"] for entry in logs] == ["decision failed"]
    assert "secret" not in str(logs)
    assert port.say(GET.replace(b"/a?b=c", b"/next")) == OK


# What is refused.


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("cut", ["whole", "byte by byte"])
async def test_what_two_parsers_could_read_differently_ends_the_connection(
    request_: bytes, cut: str
) -> None:
    port = Port()
    followed = request_ + GET
    pieces = [followed] if cut == "whole" else [bytes([byte]) for byte in followed]
    answers = [answer for answer in map(port.say, pieces) if answer]
    assert answers == [
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    ]
    assert port.transport.finished
    assert port.asked == []


@pytest.mark.parametrize(
    "begun", [b"GET /\r\n", b"GET / HTTP/2.0\r\nHost: x", b"GET / HTTP/1.1\r\nHost: x\rY", b"a\0"]
)
async def test_what_can_no_longer_become_a_request_is_refused_at_once(begun: bytes) -> None:
    port = Port()
    assert port.say(begun[:-1]) + port.say(begun[-1:]) == (
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )


LIMITS = Limits(
    head_bytes=300, target_bytes=60, value_bytes=80, headers=5, body_bytes=200, linger_seconds=0.01
)
FIVE = b"".join(b"X%d: y\r\n" % number for number in range(5))
TOO_MUCH = {
    "target": (414, b"GET /" + b"a" * 60 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "target without an end": (414, b"GET /" + b"a" * 200),
    "value": (431, GET[:-2] + b"X: " + b"a" * 81 + b"\r\n\r\n"),
    "head": (431, GET[:-2] + (b"X: " + b"a" * 80 + b"\r\n") * 4 + b"\r\n"),
    "head without an end": (431, GET[:-2] + b"X: " + b"a" * 300),
    "fields": (431, GET[:-2] + FIVE + b"\r\n"),
    "body": (413, POST + b"Content-Length: 201\r\n\r\n"),
    "chunk": (413, CHUNKED + b"c9\r\n"),
    "chunks": (413, CHUNKED + b"64\r\n" + b"a" * 100 + b"\r\n65\r\n"),
    "chunks that are tiny": (413, CHUNKED + b"1\r\na\r\n" * 4),
    "expectation": (417, POST + b"Content-Length: 3\r\nExpect: more\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "request_"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_what_is_too_much_is_told_so_and_ends_the_connection(
    status: int, request_: bytes
) -> None:
    port = Port(limits=LIMITS)
    assert port.say(request_).startswith(b"HTTP/1.1 %d " % status)
    assert port.transport.finished
    assert port.asked == []


ENOUGH = {
    "target": b"GET /" + b"a" * 59 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "value": GET[:-2] + b"X: " + b"a" * 80 + b"\r\n\r\n",
    "fields": GET[:-2] + FIVE[:-7] + b"\r\n",
    "body": POST + b"Content-Length: 200\r\n\r\n" + b"a" * 200,
    "chunks": CHUNKED + b"64\r\n" + b"a" * 100 + b"\r\n64\r\n" + b"a" * 100 + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("request_", ENOUGH.values(), ids=ENOUGH.keys())
async def test_what_just_fits_is_answered(request_: bytes) -> None:
    assert Port(limits=LIMITS).say(request_) == OK


async def test_a_connection_too_many_is_told_so() -> None:
    state, limits = ServerState(), Limits(connections=1)
    first = Port(limits=limits, state=state)
    second = Port(limits=limits, state=state)
    assert first.say(GET) == OK
    assert second.say(GET).startswith(b"HTTP/1.1 503 ")
    assert second.asked == []
    first.protocol.connection_lost(None)
    second.protocol.connection_lost(None)
    assert Port(limits=limits, state=state).say(GET) == OK


# How connections go on and end.


async def test_close_is_honoured_and_nothing_behind_it_is_read() -> None:
    port = Port()
    assert port.say(GET[:-2] + b"Connection: x, Close\r\n\r\n" + GET) == OK_CLOSE
    assert port.transport.closed
    assert len(port.asked) == 1


async def test_http_1_0_ends_with_its_answer_and_needs_no_host() -> None:
    port = Port()
    assert port.say(b"GET / HTTP/1.0\r\n\r\n") == OK_CLOSE
    assert port.transport.closed


async def test_http_1_0_may_ask_to_go_on() -> None:
    port = Port()
    request = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"
    assert port.say(request * 2) == answer * 2


async def test_an_upgrade_is_answered_as_any_request() -> None:
    port = Port()
    request = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert port.say(request + GET) == OK * 2
    assert len(port.asked) == 2


async def test_a_body_that_waits_to_be_wanted_is_told_to_come() -> None:
    port = Port()
    head = POST + b"Content-Length: 3\r\nExpect: 100-Continue\r\n\r\n"
    assert port.say(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert port.say(b"abc") == OK
    assert port.say(head + b"abc") == OK
    assert port.say(head.replace(b"1.1", b"1.0")) == b""


async def test_what_comes_after_a_refusal_is_thrown_away() -> None:
    port = Port()
    port.say(REFUSED["TLS"])
    assert port.say(GET) == b""
    assert port.asked == []


async def test_an_idle_connection_is_closed_in_silence() -> None:
    port = Port(limits=Limits(idle_seconds=0.01))
    port.say(GET)
    await port.until_closed()
    assert port.transport.written == OK


@pytest.mark.parametrize("part", [b"G", GET[:-1], POST + b"Content-Length: 3\r\n\r\n", CHUNKED])
async def test_a_request_that_takes_too_long_is_told_so(part: bytes) -> None:
    port = Port(limits=Limits(head_seconds=0.01, body_seconds=0.01, linger_seconds=0.01))
    port.say(GET)
    port.say(part)
    assert (await port.answered(2)).startswith(OK + b"HTTP/1.1 408 ")
    await port.until_closed()
    assert port.transport.aborted


async def test_each_byte_that_trickles_in_does_not_buy_more_time() -> None:
    port = Port(limits=Limits(head_seconds=0.05))
    async with asyncio.timeout(PATIENCE):
        while not port.transport.finished:
            port.say(b"A")
            await asyncio.sleep(0.001)
    assert port.transport.written.startswith(b"HTTP/1.1 408 ")


async def test_a_decision_may_take_longer_than_a_connection_may_be_idle() -> None:
    made = asyncio.get_running_loop().create_future()
    port = Port(lambda _: made, limits=Limits(idle_seconds=0.001))
    port.say(GET)
    await asyncio.sleep(0.02)
    assert not port.transport.finished
    made.set_result(ALLOW)
    await port.answered()


async def test_whoever_does_not_read_is_not_read_from_either() -> None:
    port = Port()
    port.protocol.pause_writing()
    assert not port.transport.reading
    assert port.say(GET + GET) == b""
    port.protocol.resume_writing()
    assert port.transport.reading
    assert port.transport.written == OK * 2


async def test_whoever_never_reads_is_dropped() -> None:
    port = Port(limits=Limits(idle_seconds=0.01))
    port.protocol.pause_writing()
    await port.until_closed()
    assert port.transport.aborted


async def test_a_stopping_server_closes_what_is_idle_and_answers_what_is_under_way() -> None:
    made = asyncio.get_running_loop().create_future()
    idle, busy = Port(), Port(lambda _: made)
    busy.say(GET)
    idle.protocol.shutdown()
    busy.protocol.shutdown()
    assert idle.transport.closed
    assert not busy.transport.closed
    made.set_result(ALLOW)
    assert await busy.answered() == OK_CLOSE
    assert busy.transport.closed
