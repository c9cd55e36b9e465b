"""A client at a terminal: one task reads what it says, one writes what it gets."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.terminals.model import Ending
from gatekeeper.terminals.protocol import term
from gatekeeper.terminals.protocol.closing import CloseCode, reason_bytes
from gatekeeper.terminals.protocol.sharing import Send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from gatekeeper.terminals.model import Ended
    from gatekeeper.terminals.protocol.attachment import Attachment
    from gatekeeper.terminals.protocol.sharing import Viewer
    from gatekeeper.terminals.protocol.term import FromClient, Said
    from gatekeeper.terminals.runner.screen import Look
    from gatekeeper.terminals.runner.session import Session

FIRST_SECONDS: Final = 10.0
"""For a client to say that it attaches."""
LINGER_SECONDS: Final = 10.0
"""For a client to take in the rest, after the command ended."""
CLOSE_SECONDS: Final = 3.0
"""For a client that is told to go to read that."""
DRAW_SECONDS: Final = 2.0
"""A client that fell behind and does not acknowledge screens gets one this often at most."""
MAX_TOLD: Final = 1_024
"""Messages that wait for a client; one that lets them pile up is told to come again."""

_CLOSES: Final = {
    Ending.EXPIRED: CloseCode.EXPIRED,
    Ending.IDLE: CloseCode.IDLE,
    Ending.REVOKED: CloseCode.REVOKED,
    Ending.RUNNER_LOST: CloseCode.DRAINING,
}


class Gone(Exception):  # noqa: N818  # nothing went wrong
    """The client is not there any more."""


class Socket:
    """One WebSocket, as its ASGI server hands it over."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        self._receive = receive
        self._send = send

    async def read(self) -> bytes | str:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise Gone
        data = message.get("bytes")
        return data if isinstance(data, bytes) else str(message.get("text") or "")

    async def write(self, message: bytes | str) -> None:
        kind = "bytes" if isinstance(message, bytes) else "text"
        try:
            await self._send({"type": "websocket.send", kind: message})
        except OSError as error:
            raise Gone from error

    async def close(self, code: CloseCode, reason: str) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            await self._send(
                {
                    "type": "websocket.close",
                    "code": int(code),
                    "reason": reason_bytes(reason).decode(),
                }
            )


class Client:
    """What clients of both protocols have in common."""

    protocol: str
    viewer: Viewer

    def __init__(self, socket: Socket, session: Session, attachment: Attachment) -> None:
        self.socket = socket
        self.session = session
        self.stream = session.stream
        self.attachment = attachment
        self._told: deque[Said] = deque()
        self._wake = asyncio.Event()
        self._closing: tuple[CloseCode, str] | None = None
        self._loop = asyncio.get_running_loop()
        self._over_at: float | None = None
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve the client until it goes, or is told to."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await self.begin()
        except (term.TermError, ValueError) as error:
            await self.socket.close(CloseCode.PROTOCOL_ERROR, str(error))
            return
        except TimeoutError:
            await self.socket.close(CloseCode.PROTOCOL_ERROR, "nothing was said in time")
            return
        except Gone:
            return
        self.wake()
        reading = asyncio.create_task(self._read(), name="reads a client")
        self._writing = writing = asyncio.create_task(self._write(), name="writes to a client")
        if self._closing is not None:
            self._give_up_in(CLOSE_SECONDS)
        if self.stream.ended is not None:
            self.over()
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not writing.done() and self._closing is not None:
                await asyncio.wait({writing}, timeout=CLOSE_SECONDS)
        finally:
            self.stream.leave(self)
            await _cancel(reading, writing)

    def wake(self) -> None:
        self._wake.set()

    def tell(self, message: Said) -> None:
        if len(self._told) < MAX_TOLD:
            self._told.append(message)
        else:
            self.close_soon(CloseCode.TRY_AGAIN, "you do not read")
        self._wake.set()

    def close_soon(self, code: CloseCode, reason: str) -> None:
        if self._closing is None:
            self._closing = (code, reason)
            self._give_up_in(CLOSE_SECONDS)
        self._wake.set()

    def over(self) -> None:
        """It ended: send the rest, and how it ended, for as long as the client takes it."""
        self._over_at = self._loop.time() + LINGER_SECONDS
        self._give_up_in(LINGER_SECONDS + CLOSE_SECONDS)
        self._wake.set()

    async def begin(self) -> None:
        """Hear the first message, and take the client in."""
        raise NotImplementedError

    async def handle(self, message: bytes | str) -> None:
        raise NotImplementedError

    def encode_said(self, message: Said) -> bytes | str | None:
        raise NotImplementedError

    def encode_output(self, send: Send) -> bytes | str:
        raise NotImplementedError

    def encode_screen(self, look: Look) -> bytes | str:
        raise NotImplementedError

    def type(self, data: bytes) -> bool:
        """Type what a client sent, if it may; False when it holds no lease."""
        before = self.stream.sharing.holder
        allowed = self.stream.sharing.may_write(self.viewer)
        self.stream.lease_changed(before)
        if allowed and not self.stream.type(data):
            self.tell(term.Notice(text="The command does not read its input; some was dropped."))
        return allowed

    def resize(self, columns: int, rows: int) -> None:
        if self.stream.sharing.holder is self.viewer:
            self.stream.resize(columns, rows)

    def _give_up_in(self, seconds: float) -> None:
        """Leave a client that does not even read that it is to go."""
        if self._writing is not None:
            self._loop.call_later(seconds, self._writing.cancel)

    async def _read(self) -> None:
        try:
            while True:
                message = await self.socket.read()
                await self.handle(message)
        except Gone:
            return
        except ValueError as error:  # what neither protocol knows
            self.close_soon(CloseCode.PROTOCOL_ERROR, str(error))

    async def _write(self) -> None:
        with contextlib.suppress(Gone):
            while not await self._write_once():
                pass

    async def _write_once(self) -> bool:
        """Write what there is, and wait for more; True when the client was told to go."""
        self._wake.clear()
        if self._closing is not None:
            await self.socket.close(*self._closing)
            return True
        await self._write_said()
        sharing = self.stream.sharing
        match sharing.next(self.viewer):
            case Send() as send:
                sharing.sent(self.viewer, send)
                await self.socket.write(self.encode_output(send))
                self.stream.read_on()
            case "draw":
                look = await self.stream.screen.look()
                sharing.drawn(self.viewer, look.offset)
                await self.socket.write(self.encode_screen(look))
                self.stream.read_on()
            case None if self._finished():
                await self._say_goodbye()
                return True
            case None:
                await self._wait()
        return False

    async def _write_said(self) -> None:
        while self._told:
            said = self.encode_said(self._told.popleft())
            if said is not None:
                await self.socket.write(said)

    def _finished(self) -> bool:
        """Say whether it ended, and the client has it all, or had time enough."""
        if self.stream.ended is None or self._over_at is None:
            return False
        has_all = self.viewer.sent == self.stream.sharing.ring.end
        return has_all or self._loop.time() >= self._over_at

    async def _wait(self) -> None:
        until = self._over_at
        if self.viewer.drawing:
            until = self._loop.time() + DRAW_SECONDS
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            self.viewer.drawing = False

    async def _say_goodbye(self) -> None:
        ended = self.stream.ended
        assert ended is not None  # noqa: S101  # it is finished
        said = self.encode_said(
            term.Exit(ending=ended.ending.value, code=ended.exit_code, signal=ended.signal)
        )
        if said is not None:
            await self.socket.write(said)
        await self.socket.close(_CLOSES.get(ended.ending, CloseCode.ENDED), _words(ended))


class TermClient(Client):
    """Speaks `gk.term.v1`."""

    protocol = term.SUBPROTOCOL

    async def begin(self) -> None:
        said = term.read_client(await self.socket.read())
        if not isinstance(said, term.Attach):
            msg = "a client first says attach"
            raise term.TermError(msg)
        sharing, who = self.stream.sharing, self.attachment
        before = sharing.holder
        self.viewer = sharing.join(
            subject=who.subject, name=who.name, mode=who.mode, acks=True, offset=said.offset
        )
        self._told.append(self._hello())
        self._told.extend(self.stream.stages)
        self.stream.lease_changed(before)
        self.stream.join(self, who, "gk.term.v1")
        if said.columns and said.rows:
            self.resize(said.columns, said.rows)

    async def handle(self, message: bytes | str) -> None:
        said = term.read_client(message)
        match said:
            case term.Input(data):
                if not self.type(data):
                    self.tell(term.Notice(text="Somebody else has the input."))
            case term.Ack(offset):
                if not self.stream.sharing.ack(self.viewer, offset):
                    msg = "what was never sent is not acknowledged"
                    raise term.TermError(msg)
                self.wake()
                self.stream.read_on()
            case term.Resize(columns, rows):
                self.resize(columns, rows)
            case term.Ping(t):
                self.tell(term.Pong(t=t))
            case term.Attach():
                msg = "a client says attach once"
                raise term.TermError(msg)
            case _:
                self._lease_or_end(said)

    def encode_said(self, message: Said) -> bytes | str:
        return term.encode(message)

    def encode_output(self, send: Send) -> bytes | str:
        return term.encode(term.Output(send.offset, send.data))

    def encode_screen(self, look: Look) -> bytes | str:
        return term.encode(term.Screen(look.offset, look.drawing))

    def _lease_or_end(self, said: FromClient) -> None:
        sharing = self.stream.sharing
        before = sharing.holder
        match said:
            case term.Take():
                if not sharing.take(self.viewer):
                    self.tell(term.Notice(text="You may not take the input."))
            case term.Release():
                sharing.release(self.viewer)
            case term.End():
                if self.stream.may_end(self.viewer):
                    self.session.end_soon(Ending.REVOKED)
                else:
                    self.tell(term.Notice(text="You may not end the terminal."))
        self.stream.lease_changed(before)

    def _hello(self) -> term.Hello:
        sharing, size = self.stream.sharing, self.stream.size
        holder = sharing.holder
        return term.Hello(
            terminal=self.attachment.terminal,
            instance=self.attachment.instance,
            mode=self.attachment.mode,
            offset=sharing.ring.end if self.viewer.sent is None else self.viewer.sent,
            columns=size.columns,
            rows=size.rows,
            holder=holder.name if holder else None,
            mine=holder is self.viewer,
            expires_in=round(max(self.session.deadline - self._loop.time(), 0.0), 3),
            recorded=True,
            unsandboxed=self.session.sandbox == "none",
        )


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _words(ended: Ended) -> str:
    """Say in a close how it ended: `exit N`, `signal N`, or an ending."""
    if ended.signal is not None:
        return f"signal {ended.signal}"
    if ended.exit_code is not None:
        return f"exit {ended.exit_code}"
    return ended.ending.value
