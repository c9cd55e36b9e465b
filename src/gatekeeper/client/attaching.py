"""Attaching to a terminal: one WebSocket after another, until it ends, or we leave.

Every connection has a ticket of its own. A lost one is taken up again where it was, byte for
byte; a refused one is final, unless it is said to help to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from gatekeeper.client.api import ApiError, ServerUnreachableError
from gatekeeper.kernel.backoff import Backoff
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, UnavailableError
from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.kernel.terminal.term import (
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    TermError,
    encode_client,
    read_runner,
)
from gatekeeper.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from gatekeeper.client.following import Following
    from gatekeeper.kernel.terminal.term import FromClient
    from gatekeeper.wire.terminals import TicketView

TICKET_ENTRY: Final = "ticket."
PATIENCE_SECONDS: Final = 60.0
"""How long a terminal that cannot be reached is tried again."""
CONNECT_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 1.0
"""A connection that is back in this time is not worth a word."""
PING_SECONDS: Final = 20.0
COME_AGAIN: Final = frozenset({1001, 1006, CloseCode.INTERNAL, CloseCode.DRAINING, 1013})
TICKET_TRIES: Final = 3
"""Tickets that are refused one after the other before we believe it."""
_RETRY: Final = Backoff(first=0.1, most=5.0)
_RETRY_AFTER: Final = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Closed:
    """Why the last connection was closed: code and words as they came."""

    code: int
    reason: str


class Face(Protocol):
    """Where a terminal is drawn."""

    async def draw(self, data: bytes) -> None: ...

    def note(self, text: str) -> None: ...


class _Lost(Exception):  # noqa: N818  # no error: it is tried again
    def __init__(self, why: str, after: float | None = None, *, refused: bool = False) -> None:
        super().__init__(why)
        self.after = after
        self.refused = refused
        """By the ticket's words: another one may be taken, a third hardly."""


class Outbox:
    """What is to be said, in order; it outlives connections."""

    def __init__(self) -> None:
        self._messages: deque[FromClient] = deque()
        self._changed = asyncio.Event()

    def put(self, *messages: FromClient) -> None:
        self._messages.extend(messages)
        self._changed.set()

    async def first(self) -> FromClient:
        """Wait for the next message; it stays here until it is `sent`."""
        while not self._messages:
            await self._change()
        return self._messages[0]

    def sent(self) -> None:
        self._messages.popleft()
        self._changed.set()

    async def emptied(self) -> None:
        while self._messages:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Attaching:
    """Follows a terminal, over as many connections as it takes."""

    def __init__(
        self, following: Following, face: Face, ticket: Callable[[], Awaitable[TicketView]]
    ) -> None:
        self.following = following
        self.outbox = Outbox()
        self._face = face
        self._ticket = ticket
        self._random = _Random()

    async def run(self) -> Closed:
        """Follow until the terminal is over.

        Raises `GatekeeperError` when it may not be attached to, or cannot be reached any more.
        """
        loop = asyncio.get_running_loop()
        since, failures, refused, told = loop.time(), 0, 0, False
        while True:
            before = self.following.hello
            try:
                return await self._connection()
            except _Lost as lost:
                if self.following.hello is not before:  # it had been there
                    since, failures, refused, told = loop.time(), 0, 0, False
                failures, refused = failures + 1, refused + lost.refused
                if refused >= TICKET_TRIES or loop.time() - since > PATIENCE_SECONDS:
                    msg = f"the terminal cannot be reached: {lost}"
                    raise UnavailableError(msg) from lost
                if not told and loop.time() - since > QUIET_SECONDS:
                    self._face.note(f"{lost}; trying again")
                    told = True
                pause = _RETRY.pause(failures, self._random)
                await asyncio.sleep(pause if lost.after is None else lost.after)

    async def _connection(self) -> Closed:
        ticket = await self._asked_for_ticket()
        async with _opened(ticket) as socket:
            talking = asyncio.create_task(self._talk(socket), name="terminal input")
            try:
                await self._listen(socket)
            except ConnectionClosed as closed:
                return _understood(closed)
            except TermError as error:
                msg = f"the terminal speaks something else: {error}"
                raise GatekeeperError(ErrorCode.RUNNER_REJECTED, msg) from error
            finally:
                talking.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                    await talking
        raise AssertionError  # listening ends by being closed

    async def _listen(self, socket: ClientConnection) -> None:
        while True:
            message = read_runner(await socket.recv())
            if message is None:
                continue
            told = self.following.take_in(message)
            if told.draw:
                await self._face.draw(told.draw)
            if told.note is not None:
                self._face.note(told.note)
            for answer in (*told.answer, *self.following.drawn()):
                await socket.send(encode_client(answer))

    async def _talk(self, socket: ClientConnection) -> None:
        await socket.send(encode_client(self.following.attach()))
        while True:
            # What could not be sent is the first thing that is said on the next connection.
            await socket.send(encode_client(await self.outbox.first()))
            self.outbox.sent()

    async def _asked_for_ticket(self) -> TicketView:
        try:
            return await self._ticket()
        except ServerUnreachableError as error:
            raise _Lost(error.detail) from error
        except ApiError as error:
            if error.retryable:
                raise _Lost(error.detail) from error
            raise


class _Random:
    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)


class _Straight(connect):
    """A ticket is for the place that it names: it is never carried on to another."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@contextlib.asynccontextmanager
async def _opened(ticket: TicketView) -> Any:  # noqa: ANN401  # an iterator of ClientConnection
    offered = [Subprotocol(SUBPROTOCOL), Subprotocol(TICKET_ENTRY + ticket.ticket)]
    opening = _Straight(
        ticket.url,
        subprotocols=offered,
        compression=None,
        open_timeout=CONNECT_SECONDS,
        close_timeout=1.0,
        ping_interval=PING_SECONDS,
        ping_timeout=PING_SECONDS,
        max_size=MAX_MESSAGE_BYTES,
        user_agent_header="gk",
    )
    with _named():
        socket = await opening
    try:
        yield socket
    finally:
        await socket.close()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Turn what can go wrong with a handshake into: come again, or never."""
    try:
        yield
    except InvalidStatus as error:
        raise _refusal(error) from error
    except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed, EOFError) as error:
        msg = f"the gateway does not answer ({type(error).__name__})"
        raise _Lost(msg) from error


def _refusal(error: InvalidStatus) -> Exception:
    response = error.response
    try:
        problem = Problem.model_validate_json(bytes(response.body or b""))
    except ValidationError:
        return _Lost(f"the gateway answered {response.status_code}")
    if problem.code == ErrorCode.TICKET_REFUSED:
        return _Lost(problem.detail, refused=True)
    if not problem.retryable:
        return ApiError(problem)
    after = response.headers.get("Retry-After", "")
    return _Lost(problem.detail, float(after) if _RETRY_AFTER.fullmatch(after) else None)


def _understood(closed: ConnectionClosed) -> Closed:
    """Return why it was closed for good, or raise that it is to be tried again."""
    frame = closed.rcvd
    if frame is None or frame.code in COME_AGAIN:
        why = "" if frame is None or not frame.reason else f" ({frame.reason})"
        msg = f"the connection was lost{why}"
        raise _Lost(msg) from closed
    return Closed(frame.code, frame.reason)
