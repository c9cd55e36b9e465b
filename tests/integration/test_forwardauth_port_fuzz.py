"""The decision port against mutated requests and noise.

Whatever arrives: no exception leaves the protocol, nothing that does not carry the token
is allowed, and everything is answered or closed in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
from contextlib import asynccontextmanager
from random import Random  # noqa: TID251  # the same inputs in every run
from typing import TYPE_CHECKING, Final

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from factories.hostile_requests import CHUNKED, GET, POST, REFUSED
from fakes.transport import FakeTransport
from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.web.limits import Limits
from gatekeeper.forwardauth.web.port import DecisionProtocol, decision_protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator

TOKEN: Final = b"correct-horse-battery-staple"
LIMITS: Final = Limits(head_bytes=2_048, target_bytes=512, value_bytes=512, body_bytes=2_048)
PATIENCE = 30.0

SEED = 20_261_125
QUICK_INPUTS, SLOW_INPUTS = 20_000, 1_000_000
QUICK_SOCKETS, SLOW_SOCKETS = 500, 20_000
SOCKETS_AT_ONCE = 50

WITH_TOKEN: Final = GET[:-2] + b"X-Token: " + TOKEN + b"\r\n\r\n"
SEEDS: Final = (
    GET,
    GET.replace(b"GET", b"HEAD"),
    GET[:-2] + b"X-Token: correct-horse-battery-stapl\r\n\r\n",
    GET.replace(b"1.1", b"1.0"),
    GET[:-2] + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
    GET[:-2] + b"Connection: close\r\n\r\n",
    POST + b"Content-Length: 5\r\n\r\nabcde",
    POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nabcde",
    CHUNKED + b"5\r\nabcde\r\n0\r\n\r\n",
    *REFUSED.values(),
)
WORDS: Final = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\r\n\r\n", b"\r\n ", b"\xff"),
    *(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"Connection: "),
    *(b"close", b"identity", b"HTTP/1.1", b"HTTP/0.9", b"GET ", b"CONNECT ", b"0\r\n\r\n", b"+5"),
    *(b"-1", b"0x5", b"99999999999999999999", b"Expect: 100-continue\r\n", b"a" * 600),
)
ALLOWED: Final = re.compile(rb"HTTP/1\.1 2\d\d ")
ANSWER: Final = re.compile(rb"HTTP/1\.1 \d\d\d ")


def decide(raw: RawRequest) -> Reply | Awaitable[Reply]:
    """Allow the token alone; some decisions wait, and some fail."""
    if (b"x-token", TOKEN) in raw.headers:
        return Reply(200, (), b"")
    last = raw.target[-1]
    if last % 7 == 0:
        return _later()
    if last % 11 == 0:
        msg = "a decision that fails"
        raise LookupError(msg)
    return Reply(403, (("x-reason", "none"),), b"no")


async def _later() -> Reply:
    await asyncio.sleep(0)
    return Reply(401, (), b"")


def seeded(number: int) -> Random:
    return Random(SEED + number)  # noqa: S311  # no secret is made of it


def hostile(random: Random) -> bytes:
    """Make an input: a few requests one behind the other, mutated, or noise."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(1, 200))
    data = bytearray(b"".join(random.choices(SEEDS, k=random.choice((1, 1, 1, 2, 3)))))
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        _mutate(data, random)
    return bytes(data) or b"\0"


def _mutate(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice((0, 1, 1, 2, 5, 30)))
    match random.randrange(5):
        case 0:
            data[start:end] = b""
        case 1:
            data[start:start] = random.choice(WORDS)
        case 2:
            data[start:end] = random.choice(WORDS)
        case 3:
            data[start:end] = data[start:end] * 2
        case _:
            data[start:end] = random.randbytes(end - start)


def cut(data: bytes, random: Random) -> Iterator[bytes]:
    """Cut an input as a network may: mostly not, sometimes to single bytes."""
    size = random.choice((len(data), len(data), len(data), 40, 7, 1))
    return (data[start : start + size] for start in range(0, len(data), size))


async def talk(pieces: Iterable[bytes]) -> tuple[bytes, list[bytes]]:
    """Give one connection an input; return what it was told, and the targets asked about."""
    server, transport, asked = ServerState(), FakeTransport(), []

    def ask(raw: RawRequest) -> Reply | Awaitable[Reply]:
        asked.append(raw.target)
        return decide(raw)

    protocol = DecisionProtocol(ask, limits=LIMITS, server=server)
    protocol.connection_made(transport)
    for piece in pieces:
        protocol.data_received(piece)
    while server.tasks:
        await asyncio.sleep(0)
    for _ in ("the rest does not come", "nor is the last word read"):
        protocol._deadline = -math.inf
        protocol._look()
    assert transport.closed
    protocol.connection_lost(None)
    assert not server.connections
    return bytes(transport.written), asked


async def survive(count: int, random: Random) -> None:
    for _ in range(count):
        data = hostile(random)
        pieces = list(cut(data, random))
        told, asked = await talk(pieces)
        assert ALLOWED.search(told) is None, data
        # As many answers as questions, but for those that refuse or ask for the body.
        answers = ANSWER.findall(told)
        assert len(asked) <= len(answers) <= 2 * len(asked) + 2, data
        if len(pieces) > 1:
            assert (await talk([data]))[1] == asked, data


async def test_only_the_token_is_allowed_however_it_comes() -> None:
    for size in range(1, len(WITH_TOKEN) + 1):
        told, _ = await talk(
            WITH_TOKEN[start : start + size] for start in range(0, len(WITH_TOKEN), size)
        )
        assert ALLOWED.search(told)


@pytest.mark.parametrize(
    "hidden",
    [
        POST + b"Content-Length: %d\r\n\r\n" % len(WITH_TOKEN) + WITH_TOKEN,
        CHUNKED + b"%x\r\n" % len(WITH_TOKEN) + WITH_TOKEN + b"\r\n0\r\n\r\n",
        GET[:-2] + b"X-Other: " + TOKEN + b"\r\n\r\n",
        *(refused + WITH_TOKEN for refused in REFUSED.values()),
    ],
)
async def test_a_token_that_is_hidden_is_not_found(hidden: bytes) -> None:
    for size in range(1, len(hidden) + 1):
        told, asked = await talk(
            hidden[start : start + size] for start in range(0, len(hidden), size)
        )
        assert ALLOWED.search(told) is None
        assert len(asked) <= 1


async def test_hostile_input_is_survived() -> None:
    with capture_logs():
        await survive(QUICK_INPUTS, seeded(0))


@pytest.mark.slow
async def test_a_million_hostile_inputs_are_survived() -> None:
    with capture_logs():
        await survive(SLOW_INPUTS, seeded(1))


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Serve on a real socket in this event loop; yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                _unused,
                http=decision_protocol(decide, limits=LIMITS),
                interface="asgi3",
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=1,
            )
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(server._serve([listening]))
            yield listening.getsockname()[1]
            server.should_exit = True


async def _unused(_scope: object, _receive: object, _send: object) -> None:
    raise AssertionError


async def _talk_over_a_socket(port: int, data: bytes) -> bytes:
    """Send an input and the end of it; return everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told = b""
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            while received := await reader.read(65_536):
                told += received
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return told


async def survive_over_sockets(count: int, random: Random) -> None:
    with capture_logs():
        async with serving() as port:
            for _ in range(count // SOCKETS_AT_ONCE):
                inputs = [hostile(random) for _ in range(SOCKETS_AT_ONCE)]
                told = await asyncio.gather(*(_talk_over_a_socket(port, data) for data in inputs))
                for data, answer in zip(inputs, told, strict=True):
                    assert ALLOWED.search(answer) is None, data
            # And it serves as before.
            assert ALLOWED.search(await _talk_over_a_socket(port, WITH_TOKEN))


async def test_hostile_input_over_a_socket_is_survived() -> None:
    await survive_over_sockets(QUICK_SOCKETS, seeded(2))


@pytest.mark.slow
async def test_much_hostile_input_over_a_socket_is_survived() -> None:
    await survive_over_sockets(SLOW_SOCKETS, seeded(3))
