"""What the other end of a connection may do to whoever waits for its answer."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from contract.rigs import PATIENCE_SECONDS, make_executor, make_poller
from fakes.provider import FakeProvider
from gatekeeper.databases.adapters.agents import transports
from gatekeeper.databases.adapters.agents.transports import MAX_ANSWER_BYTES, HttpPush
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HEAD = b"HTTP/1.1 200 OK\r\n"
PART = b"x" * 65_536
MOST_SENT = 16 * MAX_ANSWER_BYTES


class Peer:
    """Answers with what it likes; counts what was taken of it."""

    def __init__(self, head: bytes, part: bytes, pause: float = 0.0) -> None:
        self._head = HEAD + head + b"\r\n"
        self._part = part
        self._pause = pause
        self.sent = 0
        self.serving: list[asyncio.Task[None]] = []

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.create_task(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._head)
            while self.sent < MOST_SENT:
                writer.write(self._part)
                await writer.drain()
                self.sent += len(self._part)
                await asyncio.sleep(self._pause)
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[str]:
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in peer.serving:
            task.cancel()
        await asyncio.gather(*peer.serving, return_exceptions=True)


async def pushed(peer: Peer) -> tuple[ErrorCode, bool]:
    refused = await _push(peer)
    await asyncio.sleep(0.01)  # the loop closes what was left half read
    return refused


async def _push(peer: Peer) -> tuple[ErrorCode, bool]:
    async with listening(peer) as url:
        push = HttpPush(url)
        with pytest.raises(GatekeeperError) as caught:
            await push.exchange("a.b.c")
        await push.close()
    return caught.value.code, caught.value.retryable


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    peer = Peer(b"", PART)

    assert await pushed(peer) == (ErrorCode.AGENT_REJECTED, False)
    assert peer.sent < MOST_SENT


async def test_an_answer_is_never_unpacked() -> None:
    packed = gzip.compress(bytes(8 * MAX_ANSWER_BYTES))
    peer = Peer(b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(packed), packed)
    async with listening(peer) as url:
        push = HttpPush(url)
        assert len(await push.exchange("a.b.c")) == len(packed)
        await push.close()


async def test_an_answer_that_drips_is_not_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transports, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(transports, "CONNECT_SECONDS", 0.2)

    peer = Peer(b"", b"x", pause=0.02)

    assert await pushed(peer) == (ErrorCode.AGENT_UNREACHABLE, True)


async def test_a_poller_does_not_read_a_message_without_end() -> None:
    peer, stopping = Peer(b"", PART), asyncio.Event()
    async with listening(peer) as url:
        poller = make_poller(url, make_executor(FakeProvider()))
        running = asyncio.create_task(poller.run(stopping))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(peer.serving) < 2:  # it gave up, and asks again
                await asyncio.sleep(0.01)
        stopping.set()
        await running
        assert peer.sent < MOST_SENT
