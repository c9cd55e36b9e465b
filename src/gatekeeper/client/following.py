"""What a client knows of a terminal that it follows. Pure: messages in, bytes to draw out.

It is byte-exact over lost connections: what was drawn is never drawn again, and where bytes
are missing it stops rather than to show something that was not written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatekeeper.kernel.terminal.term import (
    ACK_EVERY_BYTES,
    Ack,
    Attach,
    Exit,
    FromClient,
    Hello,
    Lease,
    Mode,
    Notice,
    Output,
    Resize,
    Screen,
    Take,
    TermError,
)

if TYPE_CHECKING:
    from gatekeeper.kernel.terminal.term import FromRunner


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be done about one message."""

    draw: bytes = b""
    answer: tuple[FromClient, ...] = ()
    note: str | None = None
    """For the person, not for the terminal."""


@dataclass(slots=True)
class Following:
    """One terminal, over any number of connections."""

    mode: Mode
    size: tuple[int, int] | None = None
    """Columns and rows of what draws it; None when nothing has a size."""
    take: bool = False
    """Take the input from whoever holds it, if that is allowed."""
    offset: int | None = None
    """Of the next byte to draw; None before there was any."""
    exit: Exit | None = None
    hello: Hello | None = None
    mine: bool = False
    _acked: int = field(default=0)

    def attach(self) -> FromClient:
        """Return what is said first on a new connection."""
        if self.size is None or self.mode is Mode.READ:
            return Attach(self.offset)
        return Attach(self.offset, *self.size)

    def resized(self, columns: int, rows: int) -> tuple[FromClient, ...]:
        self.size = (columns, rows)
        return (Resize(columns, rows),) if self.mine else ()

    def take_in(self, message: FromRunner) -> Told:
        """Understand a message. Raises `TermError` for one that cannot be."""
        match message:
            case Output(offset, data):
                return Told(self._next(offset, data))
            case Screen(offset, data):
                missed = None if self.offset is None else offset - self.offset
                self.offset = self._acked = offset
                note = f"{missed} bytes passed unseen; the recording has them" if missed else None
                return Told(data, answer=(Ack(offset),), note=note)
            case Hello():
                return self._begun(message)
            case Lease():
                return self._lease(message.holder, mine=message.mine)
            case Notice():
                return Told(note=message.text)
            case Exit():
                self.exit = message
        return Told()

    def drawn(self) -> tuple[FromClient, ...]:
        """Say what has been drawn, when it is time to."""
        if self.offset is None or self.offset - self._acked < ACK_EVERY_BYTES:
            return ()
        self._acked = self.offset
        return (Ack(self.offset),)

    def _next(self, offset: int, data: bytes) -> bytes:
        if self.offset is None:
            self.offset = self._acked = offset
        if offset > self.offset:
            msg = f"bytes {self.offset} to {offset} of the output are missing"
            raise TermError(msg)
        new = data[self.offset - offset :]
        self.offset += len(new)
        return new

    def _begun(self, hello: Hello) -> Told:
        first, self.hello = self.hello is None, hello
        self._acked = self.offset or 0
        told = self._lease(hello.holder, mine=hello.mine, first=first)
        if first and hello.unsandboxed:
            return Told(answer=told.answer, note="this terminal is in NO sandbox")
        return told

    def _lease(self, holder: str | None, *, mine: bool, first: bool = False) -> Told:
        had, self.mine = self.mine, mine
        if self.mode is Mode.READ:
            return Told()
        if mine:
            resize = () if self.size is None else (Resize(*self.size),)
            return Told(answer=resize, note=None if had or first else "you have the input now")
        if holder is None:
            return Told(answer=(Take(),))
        if self.take:
            self.take = False
            return Told(answer=(Take(),))
        whose = f"{holder} has the input" if first else f"{holder} took the input"
        return Told(note=f"{whose}; you watch")
