"""A client that speaks `gk.term.v1`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.terminal import term
from gatekeeper.terminals.model import Ending
from gatekeeper.terminals.runner.viewers import Client

if TYPE_CHECKING:
    from gatekeeper.kernel.terminal.term import FromClient, Said
    from gatekeeper.terminals.protocol.attachment import Attachment
    from gatekeeper.terminals.protocol.sharing import Send
    from gatekeeper.terminals.runner.screen import Look
    from gatekeeper.terminals.runner.session import Session
    from gatekeeper.terminals.runner.sockets import Socket

MOST_PASSES: Final = 20
"""Of the input, by one client in `PASS_SECONDS`: each is evidence, and told to everybody."""
PASS_SECONDS: Final = 30.0


class TermClient(Client):
    """Speaks `gk.term.v1`."""

    protocol = term.SUBPROTOCOL

    def __init__(self, socket: Socket, session: Session, attachment: Attachment) -> None:
        super().__init__(socket, session, attachment)
        self._passed = deque[float](maxlen=MOST_PASSES)

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
                self.type(data)
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
            case term.End():
                self._end()
            case _:
                self._pass(said)

    def encode_said(self, message: Said) -> bytes | str:
        return term.encode(message)

    def encode_output(self, send: Send) -> bytes | str:
        return term.encode(term.Output(send.offset, send.data))

    def encode_screen(self, look: Look) -> bytes | str:
        return term.encode(term.Screen(look.offset, look.drawing))

    def _end(self) -> None:
        if self.stream.may_end(self.viewer):
            self.session.end_soon(Ending.REVOKED)
        else:
            self.notice("You may not end the terminal.")

    def _pass(self, said: FromClient) -> None:
        """Take the input, or give it up."""
        if not self._may_pass():
            self.notice("You pass the input on too often.")
            return
        sharing = self.stream.sharing
        before = sharing.holder
        if isinstance(said, term.Release):
            sharing.release(self.viewer)
        elif not sharing.take(self.viewer):
            self.notice("You may not take the input.")
        self.stream.lease_changed(before)

    def _may_pass(self) -> bool:
        now = self._loop.time()
        if len(self._passed) == MOST_PASSES and now - self._passed[0] < PASS_SECONDS:
            return False
        self._passed.append(now)
        return True

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
