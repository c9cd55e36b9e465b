"""A client at a terminal: one task reads what it says, one writes what it gets."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.terminal import term
from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.terminals.model import Ending, Mode
from gatekeeper.terminals.protocol.sharing import Send
from gatekeeper.terminals.runner.sockets import Gone

if TYPE_CHECKING:
    from gatekeeper.kernel.terminal.term import Said
    from gatekeeper.terminals.model import Ended
    from gatekeeper.terminals.protocol.attachment import Attachment
    from gatekeeper.terminals.protocol.sharing import Viewer
    from gatekeeper.terminals.runner.screen import Look
    from gatekeeper.terminals.runner.session import Session
    from gatekeeper.terminals.runner.sockets import Socket

log = structlog.get_logger("gatekeeper.runner")

FIRST_SECONDS: Final = 10.0
"""For a client to say that it attaches."""
LINGER_SECONDS: Final = 10.0
"""For a client to take in the rest, after the command ended."""
CLOSE_SECONDS: Final = 3.0
"""For a client that is told to go to read that."""
DRAW_SECONDS: Final = 2.0
"""A client that fell behind and does not acknowledge screens gets one this often at most."""
NOTICE_SECONDS: Final = 1.0
MAX_TOLD: Final = 1_024
"""Messages that wait for a client; one that lets them pile up is told to come again."""

END_OF_INPUT: Final = b"\n\x04"
"""Ctrl-D at the begin of a line: a client that reads a pipe or a file says it when that is over,
and cannot know that the command is over too."""

_CLOSES: Final = {
    Ending.EXPIRED: CloseCode.EXPIRED,
    Ending.IDLE: CloseCode.IDLE,
    Ending.REVOKED: CloseCode.REVOKED,
    Ending.RUNNER_LOST: CloseCode.DRAINING,
}


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
        self._notice_at, self._noticed = 0.0, ""
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve the client until it goes, or is told to."""
        if await self._begun():
            try:
                await self._serve()
            finally:
                self.stream.leave(self)

    async def _begun(self) -> bool:
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await self.begin()
        except ValueError as error:  # what neither protocol knows
            await self.socket.close(CloseCode.PROTOCOL_ERROR, str(error))
        except TimeoutError:
            await self.socket.close(CloseCode.PROTOCOL_ERROR, "nothing was said in time")
        except Gone:
            return False
        else:
            return True
        return False

    async def _serve(self) -> None:
        reading = asyncio.create_task(self._read(), name="reads a client")
        self._writing = writing = asyncio.create_task(self._write(), name="writes to a client")
        if self._closing is not None:
            self._give_up_in(CLOSE_SECONDS)
        if self.stream.ended is not None:
            self.over()
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() and self._closing is not None:
                await asyncio.wait({writing}, timeout=CLOSE_SECONDS)
        finally:
            await _end(reading, writing)

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

    def type(self, data: bytes) -> None:
        """Type what a client sent, if it may."""
        may_ever = self.viewer.mode is not Mode.READ
        before = self.stream.sharing.holder
        allowed = self.stream.sharing.may_write(self.viewer)
        self.stream.lease_changed(before)
        if not allowed:
            self.notice("Somebody else has the input." if may_ever else "You only watch.")
        elif not self.stream.type(data):
            self._tell_of_dropped(data)

    def _tell_of_dropped(self, data: bytes) -> None:
        """Say that something was dropped, if it was: an end of input is none of its own."""
        if not self.stream.gone:
            self.notice("The command does not read its input; some was dropped.")
        elif data.strip(END_OF_INPUT):
            self.notice("The command has ended; what came after was dropped.")

    def notice(self, text: str) -> None:
        """Say why something was not done; once in a while is enough."""
        now = self._loop.time()
        if now >= self._notice_at or text != self._noticed:
            self._notice_at, self._noticed = now + NOTICE_SECONDS, text
            self.tell(term.Notice(text=text))

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


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("a client could not be served", exc_info=result)


def _words(ended: Ended) -> str:
    """Say in a close how it ended: `exit N`, `signal N`, or an ending."""
    if ended.signal is not None:
        return f"signal {ended.signal}"
    if ended.exit_code is not None:
        return f"exit {ended.exit_code}"
    return ended.ending.value
