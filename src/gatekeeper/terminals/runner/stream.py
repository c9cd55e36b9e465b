"""A terminal's bytes between its PTY, its viewers, its screen and its recording."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.terminal import term
from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.terminals.model import Mode, Size
from gatekeeper.terminals.protocol.sharing import Sharing
from gatekeeper.terminals.runner.screen import Screen
from gatekeeper.wire.runner import AttachedEvent, LeaseEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal, Protocol

    from gatekeeper.kernel.terminal.term import Said
    from gatekeeper.terminals.model import Ended, Stage
    from gatekeeper.terminals.protocol.attachment import Attachment
    from gatekeeper.terminals.protocol.sharing import Viewer
    from gatekeeper.terminals.runner.ledger import Ledger
    from gatekeeper.terminals.runner.pty import Pty
    from gatekeeper.terminals.runner.recording import Recording
    from gatekeeper.terminals.runner.sandbox import Exit

    class Watcher(Protocol):
        """A client, as its terminal knows it."""

        viewer: Viewer

        def wake(self) -> None: ...
        def over(self) -> None: ...
        def tell(self, message: Said) -> None: ...
        def close_soon(self, code: CloseCode, reason: str) -> None: ...


MOST_RESIZES: Final = 20
"""In `RESIZE_SECONDS`: each is recorded, and told to everybody."""
RESIZE_SECONDS: Final = 1.0
MAX_EARLY_BYTES: Final = 65_536
"""Typed before there is a command: while a bundle is fetched, or a database login is made."""


class Stream:
    """Passes output on, and input in. All of it runs on the loop, and none of it waits."""

    def __init__(
        self,
        *,
        columns: int,
        rows: int,
        recording: Recording,
        secrets: Sequence[str],
        record_input: bool,
        most_output: int,
        over_limit: Callable[[], object],
        first_byte: Callable[[], None],
        ledger: Ledger,
    ) -> None:
        self.size = self._wanted = Size(columns=columns, rows=rows)
        self._resizing: asyncio.TimerHandle | None = None
        self._resized = deque[float](maxlen=MOST_RESIZES)
        self.sharing = Sharing()
        self.screen = Screen(columns, rows, secrets=secrets)
        self.ended: Ended | None = None
        self.watchers: list[Watcher] = []
        self._recording = recording
        self._record_input = record_input
        self._most_output = most_output
        self._over_limit = over_limit
        self._first_byte = first_byte
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self.active_at = self._loop.time()
        self._pty: Pty | None = None
        self._early: bytearray | None = bytearray()
        """Typed while the command is not there yet."""
        self._typed = 0
        """Bytes of input that were recorded."""
        self.expecting = False
        """The command has begun, and has written nothing yet."""
        self._listeners: set[Callable[[bytes], None]] = set()
        self.stages: list[term.StageReached] = []

    @property
    def written(self) -> int:
        return self.sharing.ring.end

    @property
    def gone(self) -> bool:
        """Whether the command was there and is no more."""
        return self._pty is None and self._early is None

    def open(self, pty: Pty) -> None:
        """Begin; what was typed before the command was there is typed now."""
        self._pty = pty
        early, self._early = self._early, None
        if early:
            pty.write(bytes(early))
        self.read_on()

    def read_on(self) -> None:
        """Read, or pause, as the lease holder's window and the recording allow."""
        if self._pty is None:
            return
        if self.sharing.may_read() and not self._recording.full:
            self._pty.read_on()
        else:
            self._pty.pause()

    def heard(self, data: bytes) -> None:
        """Take what the terminal wrote."""
        if self.expecting:
            self.expecting = False
            self._first_byte()
        self.active_at = self._loop.time()
        self._pass_on(data)
        if self._pty is not None:
            self.read_on()
        self._hold_to_limit()

    def _hold_to_limit(self) -> None:
        """End what would fill the disk: with what it wrote, and what is recorded of its input."""
        if self.written + self._typed > self._most_output:
            self._over_limit()

    def say(self, line: str) -> None:
        """Show a line of the runner's own, before the command begins, or after it ended."""
        shown = "".join(char for char in line if char.isprintable())
        self._pass_on(f"{shown}\r\n".encode(errors="replace"))

    def type(self, data: bytes) -> bool:
        """Type; False when the command does not read, or is gone: nothing was taken."""
        if not self._take_input(data):
            return False
        self.active_at = self._loop.time()
        if self._record_input:
            self._recording.note("i", data)
            self._typed += len(data)
            self._hold_to_limit()
        return True

    def _take_input(self, data: bytes) -> bool:
        if self._pty is not None:
            return self._pty.write(data)
        if self._early is None or len(self._early) + len(data) > MAX_EARLY_BYTES:
            return False
        self._early += data
        return True

    def resize(self, columns: int, rows: int) -> None:
        """Change the size: at once, or of very many the last as soon as it may be."""
        self._wanted = Size(columns=columns, rows=rows)
        if self._resizing is None:
            self._resize()

    def _resize(self) -> None:
        self._resizing, size, now = None, self._wanted, self._loop.time()
        if size == self.size or self.ended is not None:
            return
        if len(self._resized) == MOST_RESIZES and now < self._resized[0] + RESIZE_SECONDS:
            at = self._resized[0] + RESIZE_SECONDS
            self._resizing = self._loop.call_at(at, self._resize)
            return
        self._resized.append(now)
        self.size = size
        if self._pty is not None:
            self._pty.resize(size.columns, size.rows)
        self.screen.resize(size.columns, size.rows)
        self._recording.note("r", f"{size.columns}x{size.rows}".encode())
        self.tell(term.SizeChanged(columns=size.columns, rows=size.rows))

    def join(
        self, watcher: Watcher, attachment: Attachment, protocol: Literal["gk.term.v1", "tty"]
    ) -> None:
        """Count a client in that has its place among the viewers."""
        self.watchers.append(watcher)
        self._ledger.note(
            AttachedEvent(subject=attachment.subject, mode=attachment.mode.value, protocol=protocol)
        )
        self.tell(term.Viewers(count=len(self.watchers)))
        self.read_on()

    def leave(self, watcher: Watcher) -> None:
        before = self.sharing.holder
        self.watchers.remove(watcher)
        self.sharing.leave(watcher.viewer)
        self.lease_changed(before)
        self.tell(term.Viewers(count=len(self.watchers)))
        self.read_on()

    def lease_changed(self, before: Viewer | None) -> None:
        """Tell everybody who holds the input now, if that is somebody else than before."""
        holder = self.sharing.holder
        if holder is before:
            return
        if self.ended is None:
            self._ledger.note(LeaseEvent(holder=holder.subject if holder else None))
        name = holder.name if holder else None
        for watcher in self.watchers:
            watcher.tell(term.Lease(holder=name, mine=watcher.viewer is holder))
            if watcher.viewer is before and not before.acks:
                watcher.close_soon(CloseCode.TAKEN_OVER, "somebody else has the input now")
        self.read_on()

    def may_end(self, viewer: Viewer) -> bool:
        return viewer.mode is Mode.MODERATE or self.sharing.holder is viewer

    def tell(self, message: Said) -> None:
        for watcher in self.watchers:
            watcher.tell(message)

    def tell_stage(self, stage: Stage, at: float) -> None:
        reached = term.StageReached(stage=stage.value, at_seconds=round(at, 3))
        self.stages.append(reached)
        self._recording.note("m", stage.value.encode())
        self.tell(reached)

    def listen(self, listener: Callable[[bytes], None]) -> Callable[[], None]:
        """Have all further output; return what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def wait_for_output(self, seconds: float) -> None:
        came = asyncio.Event()
        stop = self.listen(lambda _data: came.set())
        try:
            async with asyncio.timeout(seconds):
                await came.wait()
        except TimeoutError:
            return
        finally:
            stop()

    async def finish(self, exited: Exit | None) -> None:
        """Pass on what is still there, and close the recording: nobody writes any more."""
        pty, self._pty = self._pty, None
        if pty is not None:
            pty.drain()
            pty.close()
        status = None
        if exited is not None:
            status = exited.code if exited.signal is None else 128 + exited.signal
        await self._recording.close(status)

    async def last_screen(self, most_chars: int) -> str:
        look = await self.screen.look()
        return "\n".join(look.lines).rstrip()[:most_chars]

    def over(self, ended: Ended) -> None:
        """It ended: viewers get the rest, and how it ended."""
        self.ended = ended
        for watcher in self.watchers:
            watcher.over()

    def _pass_on(self, data: bytes) -> None:
        self.sharing.ring.append(data)
        self.screen.write(data)
        self._recording.note("o", data)
        for watcher in self.watchers:
            watcher.wake()
        for listener in tuple(self._listeners):
            listener(data)
