"""The decision port: HTTP/1.1 from sockets to a decision and back, at the least cost.

uvicorn owns the listening sockets, the signals and the graceful stop; what it makes for
each connection is this protocol instead of its own. One request is under way at a time:
those pipelined behind it wait as bytes. A decision that is there at once is written at
once; one that must wait is a task. Health, metrics and `/explain` are not here, where a
client of the proxy could reach them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import structlog

from gatekeeper.forwardauth.model import RawRequest, Reply
from gatekeeper.forwardauth.web import writing
from gatekeeper.forwardauth.web.limits import Limits
from gatekeeper.forwardauth.web.parsing import HEAD_END, Body, Head, HeadReader, Refusal

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

Decide = Callable[[RawRequest], Reply | Awaitable[Reply]]

log = structlog.get_logger("gatekeeper.forwardauth.port")

_FAILED: Final = Reply(500, (), b"")


class _Phase(Enum):
    HEAD = auto()
    """A request is awaited, or the rest of its head."""
    BODY = auto()
    DECIDING = auto()
    ENDING = auto()
    """The last word is said; what still comes is thrown away."""


_HEAD, _BODY, _DECIDING, _ENDING = _Phase


def decision_protocol(decide: Decide, *, limits: Limits | None = None) -> type[asyncio.Protocol]:
    """Make the protocol class for `uvicorn.Config(http=…)`."""

    class UvicornProtocol(DecisionProtocol):
        def __init__(
            self,
            config: Config,  # noqa: ARG002  # uvicorn passes it
            server_state: ServerState,
            app_state: dict[str, Any],  # noqa: ARG002
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            super().__init__(decide, limits=limits or Limits(), server=server_state)

    return UvicornProtocol


class DecisionProtocol(asyncio.Protocol):
    """One connection. Whatever goes wrong ends in a reply that is no allow, or in a close."""

    def __init__(self, decide: Decide, *, limits: Limits, server: ServerState) -> None:
        self._decide = decide
        self._limits = limits
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._reader = HeadReader(self._limits)
        self._phase = _HEAD
        self._buffer = bytearray()
        self._searched = 0
        """Bytes of the buffer in which no end of a head is."""
        self._head: Head
        """Of the request under way."""
        self._body: Body
        self._task: asyncio.Task[None] | None = None
        self._draining = False
        self._stalled = False
        """Whether the other side does not read what it is told."""
        self._reading = True
        self._date: tuple[object, bytes] = (None, b"")

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if isinstance(name, tuple) else "unix"
        self._full = len(self._server.connections) >= self._limits.connections
        self._server.connections.add(self)  # type: ignore[arg-type]  # a protocol as uvicorn's own
        self._deadline = self._loop.time() + self._limits.idle_seconds
        self._arm(self._limits.idle_seconds)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._phase = _ENDING
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._buffer.clear()
        del self._reader  # it and its parser hold each other

    def data_received(self, data: bytes) -> None:
        if self._phase is _HEAD and not self._buffer and _one_head(data):
            self._request(data)
        elif self._phase is not _ENDING:
            self._buffer += data
            self._advance()

    def eof_received(self) -> None:
        """Have the transport closed: whoever sends no more is gone, as proxies mean it."""

    def pause_writing(self) -> None:
        self._stalled = True
        self._regulate()

    def resume_writing(self) -> None:
        self._stalled = False
        self._advance()

    # What the server tells.

    def shutdown(self) -> None:
        """End the connection when the request under way is answered."""
        self._draining = True
        if self._phase is _HEAD:
            self._close()

    # One request after the other.

    def _advance(self) -> None:
        """Go through what has arrived, as far as it goes now."""
        more = True
        while more and self._buffer and not self._stalled:
            if self._phase is _HEAD:
                more = self._take_head()
            elif self._phase is _BODY:
                more = self._take_body()
            else:
                more = False
        self._regulate()

    def _take_head(self) -> bool:
        end = self._buffer.find(HEAD_END, max(self._searched - len(HEAD_END) + 1, 0))
        if end < 0:
            refused = self._reader.unfinished(self._buffer, self._searched)
            if refused is not None:
                self._refuse(refused)
            elif not self._searched:
                self._wait(self._limits.head_seconds)
            self._searched = len(self._buffer)
            return False
        end += len(HEAD_END)
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = 0
        self._request(head)
        return True

    def _request(self, data: bytes) -> None:
        head = self._reader.read(data)
        if isinstance(head, Refusal):
            self._refuse(head)
        elif self._full:
            self._refuse(Refusal(503, "too many connections"))
        else:
            self._head = head
            if head.body is None:
                self._ask()
            else:
                self._await_body(head, head.body)

    def _await_body(self, head: Head, body: Body) -> None:
        self._phase, self._body = _BODY, body
        self._wait(self._limits.body_seconds)
        if head.expects_continue and not self._buffer:
            self._transport.write(writing.CONTINUE)

    def _take_body(self) -> bool:
        taken = self._body.take(self._buffer)
        if isinstance(taken, Refusal):
            self._refuse(taken)
        elif taken:
            self._ask()
        return taken is True

    def _ask(self) -> None:
        head = self._head
        try:
            reply = self._decide(RawRequest(head.method, head.target, head.headers, self._peer))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is no allow
            reply = _failed(error)
        if isinstance(reply, Reply):
            self._answer(reply)
        else:
            self._phase = _DECIDING
            self._task = task = self._loop.create_task(self._settle(reply))
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)

    async def _settle(self, decision: Awaitable[Reply]) -> None:
        try:
            reply = await decision
        except asyncio.CancelledError as error:
            if self._phase is _ENDING:  # nobody waits for the answer
                raise
            reply = _failed(error)
        except Exception as error:  # noqa: BLE001
            reply = _failed(error)
        self._task = None
        self._answer(reply)
        self._advance()

    def _answer(self, reply: Reply) -> None:
        head = self._head
        keep = head.keep_alive and not self._draining
        try:
            data = self._response(reply, keep=keep)
        except Exception as error:  # noqa: BLE001
            data = self._response(_failed(error), keep=keep)
        self._transport.write(data)
        if keep:
            self._phase = _HEAD
            self._deadline = self._loop.time() + self._limits.idle_seconds
        else:
            self._close()

    def _response(self, reply: Reply, *, keep: bool) -> bytes:
        head, defaults = self._head, self._server.default_headers
        if self._date[0] is not defaults:  # uvicorn makes a new list every second
            lines = b"".join([b"%b: %b\r\n" % field for field in defaults])
            self._date = (defaults, lines)
        connection = writing.CLOSE
        if keep:
            connection = writing.KEEP_HTTP_1_0 if head.http_1_0 else writing.KEEP
        return writing.response(
            reply, connection=connection, date=self._date[1], head_only=head.method == "HEAD"
        )

    # How it ends.

    def _refuse(self, refused: Refusal) -> None:
        """Say the last word, and leave it time to arrive.

        To close with bytes unread would reset the connection, and the word with it
        (RFC 9112 section 9.6).
        """
        log.info("request refused", status=refused.status, reason=refused.reason, peer=self._peer)
        self._transport.write(writing.refusal(refused.status))
        if self._transport.is_closing() or not self._transport.can_write_eof():
            self._close()
        else:
            self._transport.write_eof()
            self._end()

    def _close(self) -> None:
        self._transport.close()
        self._end()

    def _end(self) -> None:
        self._phase = _ENDING
        self._buffer.clear()
        self._wait(self._limits.linger_seconds)
        self._regulate()

    # Time and pace.

    def _wait(self, seconds: float) -> None:
        """Expect the next step within some seconds."""
        self._deadline = self._loop.time() + seconds
        if self._deadline < self._fires:
            self._timer.cancel()
            self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        """Set the one timer of this connection.

        A deadline that moves further away does not touch it: it looks when it fires.
        """
        self._fires = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        left = self._deadline - self._loop.time()
        if self._phase is _DECIDING:
            self._arm(self._limits.idle_seconds)
        elif left > 0:
            self._arm(left)
        else:
            self._fires = math.inf
            self._expire()

    def _expire(self) -> None:
        if self._phase is _ENDING or self._stalled:
            self._transport.abort()
        elif self._phase is _BODY or self._buffer:
            self._refuse(Refusal(408, "the request took too long to arrive"))
        else:
            self._close()

    def _regulate(self) -> None:
        """Read only as fast as can be answered."""
        waiting = self._phase is _DECIDING and len(self._buffer) > self._limits.head_bytes
        wanted = self._phase is _ENDING or not (self._stalled or waiting)
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()


def _one_head(data: bytes) -> bool:
    """Tell whether this is one head and nothing else: how a proxy's request arrives."""
    return data.endswith(HEAD_END) and data.find(HEAD_END) == len(data) - len(HEAD_END)


def _failed(error: BaseException) -> Reply:
    """The reply when a decision failed. Of the error only its type: its text may hold a secret."""
    log.error("decision failed", error=type(error).__name__)
    return _FAILED
