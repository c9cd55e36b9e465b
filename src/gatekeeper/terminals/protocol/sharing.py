"""Who gets which of a terminal's bytes, and who may type: the rules, without any I/O.

The last `RING_BYTES` of output are kept. A viewer that names its offset gets exactly what
follows; one that has none, or whose offset is no longer kept, is to be drawn a screen and goes on
from there. At most `WINDOW_BYTES` are on their way to a viewer; the holder of the input lease
holds the terminal up with its own window, and nobody else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gatekeeper.kernel.terminal.term import MAX_OUTPUT_BYTES, WINDOW_BYTES
from gatekeeper.terminals.model import Mode

RING_BYTES: Final = 1_048_576
"""Output kept of each terminal; four windows, so the holder never falls out."""


class Ring:
    """The last bytes of a stream, by their offsets in it."""

    __slots__ = ("_data", "_most", "start")

    def __init__(self, most: int = RING_BYTES) -> None:
        self._most = most
        self._data = bytearray()
        self.start = 0

    @property
    def end(self) -> int:
        return self.start + len(self._data)

    def append(self, data: bytes) -> None:
        self._data += data
        over = len(self._data) - self._most
        if over > 0:
            del self._data[:over]
            self.start += over

    def read(self, offset: int, most: int) -> bytes:
        """Return at most so many bytes from an offset that is kept."""
        at = offset - self.start
        return bytes(self._data[at : at + max(most, 0)])

    def clear(self) -> None:
        """Forget the bytes, not how many they were."""
        self.start = self.end
        self._data.clear()


@dataclass(slots=True, kw_only=True, eq=False)
class Viewer:
    """One client. `sent` and `acked` are offsets; `sent` is None until a screen was drawn."""

    subject: str
    name: str
    mode: Mode
    acks: bool
    """Whether it acknowledges, and knows of leases: `tty` clients do neither."""
    sent: int | None = None
    acked: int = 0
    drawing: bool = False
    """A screen is on its way to it."""
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    offset: int
    data: bytes


Next = Send | Literal["draw"] | None


class Sharing:
    """A terminal's output, its viewers, and the one input lease."""

    def __init__(self, *, ring: int = RING_BYTES, window: int = WINDOW_BYTES) -> None:
        self.ring = Ring(ring)
        self.viewers: list[Viewer] = []
        self.holder: Viewer | None = None
        self._window = window
        self._seen = False

    def join(
        self, *, subject: str, name: str, mode: Mode, acks: bool, offset: int | None
    ) -> Viewer:
        """Let a client in; it holds the lease if that is free, or its subject's already."""
        viewer = Viewer(subject=subject, name=name, mode=mode, acks=acks)
        if offset is None and not self._seen:
            offset = 0  # nobody has drawn any of it, so nothing in it is answered twice
        if offset is not None and self.ring.start <= offset <= self.ring.end:
            viewer.sent = viewer.acked = offset
        else:
            viewer.acked = self.ring.end
        self._seen = True
        self.viewers.append(viewer)
        holder = self.holder
        if mode is Mode.WRITE and (holder is None or holder.subject == subject):
            self.holder = viewer
        return viewer

    def leave(self, viewer: Viewer) -> None:
        self.viewers.remove(viewer)
        self.release(viewer)

    def take(self, viewer: Viewer) -> bool:
        """Give the lease to a viewer that may have it: a moderator may take it from anybody."""
        holder = self.holder
        if viewer.mode is Mode.READ:
            return False
        if holder is None or holder.subject == viewer.subject or viewer.mode is Mode.MODERATE:
            self.holder = viewer
        return self.holder is viewer

    def release(self, viewer: Viewer) -> None:
        if self.holder is viewer:
            self.holder = None

    def may_write(self, viewer: Viewer) -> bool:
        """Say whether what it types counts: who types while nobody holds the lease, has it."""
        if self.holder is None:
            self.take(viewer)
        return self.holder is viewer

    def may_read(self) -> bool:
        """Say whether the terminal may go on: its holder has taken in what was written."""
        return self.holder is None or self.ring.end - self.holder.acked < self._window

    def next(self, viewer: Viewer) -> Next:
        """Return what a viewer is to get now; None when it has to wait."""
        if viewer.paused:
            return None
        if viewer.sent is None or viewer.sent < self.ring.start:
            return None if viewer.drawing else "draw"
        room = self._window - (viewer.sent - viewer.acked)
        data = self.ring.read(viewer.sent, min(room, MAX_OUTPUT_BYTES))
        return Send(viewer.sent, data) if data else None

    def sent(self, viewer: Viewer, send: Send) -> None:
        """Note that a viewer was sent bytes; one that never acknowledges has them now."""
        viewer.sent = send.offset + len(send.data)
        if not viewer.acks:
            viewer.acked = viewer.sent

    def drawn(self, viewer: Viewer, offset: int) -> None:
        """Note that a viewer was sent a screen, after which the output from `offset` follows."""
        viewer.sent = viewer.acked = offset
        viewer.drawing = viewer.acks

    def ack(self, viewer: Viewer, offset: int) -> bool:
        """Note what a viewer has drawn; False for what it was never sent."""
        if viewer.sent is None or offset > viewer.sent:
            return False
        if offset >= viewer.acked:
            viewer.acked = offset
            viewer.drawing = False
        return True
