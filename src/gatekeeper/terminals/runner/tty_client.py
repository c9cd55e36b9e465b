"""A client of ttyd at our terminal: no offsets, no leases, no acknowledgements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.terminals.protocol import ttyd
from gatekeeper.terminals.runner.viewers import Client

if TYPE_CHECKING:
    from gatekeeper.kernel.terminal.term import Said
    from gatekeeper.terminals.protocol.sharing import Send
    from gatekeeper.terminals.runner.screen import Look


class TtyClient(Client):
    """Speaks `tty`. What it has no word for, it is not told."""

    protocol = ttyd.SUBPROTOCOL

    async def begin(self) -> None:
        start = await self._start()
        await self.socket.write(ttyd.title(self.attachment.terminal))
        await self.socket.write(ttyd.preferences({}))
        sharing, who = self.stream.sharing, self.attachment
        before = sharing.holder
        self.viewer = sharing.join(
            subject=who.subject, name=who.name, mode=who.mode, acks=False, offset=None
        )
        self.stream.lease_changed(before)
        self.stream.join(self, who, "tty")
        if start.columns and start.rows:
            self.resize(start.columns, start.rows)

    async def handle(self, message: bytes | str) -> None:
        match ttyd.read_client(message):
            case ttyd.Input(data):
                self.type(data)
            case ttyd.Resize(columns, rows):
                self.resize(columns, rows)
            case ttyd.Pause():
                self.viewer.paused = True
            case ttyd.Resume():
                self.viewer.paused = False
                self.wake()
            case ttyd.Start():
                return  # a second one is ignored, as ttyd does

    def encode_said(self, message: Said) -> bytes | str | None:
        del message
        return None

    def encode_output(self, send: Send) -> bytes | str:
        return ttyd.output(send.data)

    def encode_screen(self, look: Look) -> bytes | str:
        return ttyd.output(look.drawing)

    async def _start(self) -> ttyd.Start:
        """Wait for the first JSON; sizes and pauses before it do no harm, input does."""
        while True:
            said = ttyd.read_client(await self.socket.read())
            if isinstance(said, ttyd.Start):
                return said
            if isinstance(said, ttyd.Input):
                msg = "input comes after the first JSON"
                raise ttyd.TtydError(msg)
