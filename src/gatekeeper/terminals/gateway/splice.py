"""A client and its runner, joined: bytes go both ways as they are, and only frame heads are seen.

    OPEN ──▶ CUTTING ──▶ ENDING     we end it: at the end of the frame under way, with a close
      └────▶ HALF                   the client sends no more, what the runner says still arrives

Each side is read only as fast as the other takes it: not at all while anything waits. After
CUTTING and HALF began, the end comes within a second or two, whatever the peers do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.kernel.terminal.term import MAX_MESSAGE_BYTES
from gatekeeper.terminals.gateway.sides import ClientSide, RunnerSide
from gatekeeper.terminals.protocol.frames import (
    MAX_CLIENT_MESSAGE_BYTES,
    PING,
    FrameTracker,
    Violation,
    close_frame,
)

if TYPE_CHECKING:
    import asyncio

    from gatekeeper.terminals.gateway.sessions import Sessions

SMALL_BYTES: Final = 1_024
"""A read of keystrokes or of their echo: to copy it is cheaper than to save the copy."""
CUT_SECONDS: Final = 0.5
"""For the frame under way to end. Then the connection is reset, as no close would be read."""
LINGER_SECONDS: Final = 2.0
"""For a client to answer a close, and for what was sent to arrive."""

MAX_UNANSWERED: Final = 3
"""Pings. A client that sends nothing at all after that many is gone."""

OPEN: Final = 0
HALF: Final = 1
CUTTING: Final = 2
ENDING: Final = 3

EXPIRED: Final = (CloseCode.EXPIRED, "expired")


def _pass_on(to: asyncio.Transport, data: bytes | memoryview) -> None:
    """Give the kernel what it takes at once. Only what is left is copied, and waits.

    The transport alone would be given a copy of each read, and keep all of it for its end.
    """
    taken = 0
    if len(data) > SMALL_BYTES and not to.get_write_buffer_size():
        try:
            taken = os.write(to.get_extra_info("socket").fileno(), data)
        except OSError:
            taken = 0  # it takes nothing now, or is gone: the transport finds out which
    if taken < len(data):
        to.write(bytes(data[taken:]))


class Session:
    """One joined pair. Of the client only what is needed to end it is kept."""

    __slots__ = (
        "_stalled_down", "_stalled_up", "cause", "client", "deadline", "down", "heard", "runner",
        "sent", "sessions", "slot", "state", "terminal", "unanswered", "up",
    )  # fmt: skip

    def __init__(
        self,
        sessions: Sessions,
        *,
        terminal: str,
        client: asyncio.Transport,
        runner: asyncio.Transport,
        deadline: float,
    ) -> None:
        self.sessions = sessions
        self.terminal = terminal
        self.client = client
        self.runner = runner
        self.up = FrameTracker(masked=True, maximum=MAX_CLIENT_MESSAGE_BYTES)
        self.down = FrameTracker(masked=False, maximum=MAX_MESSAGE_BYTES)
        self.deadline = deadline
        """When it is ended, for `cause`, or given up when that is under way (the loop's clock)."""
        self.cause: tuple[int, str] = EXPIRED
        self.state = OPEN
        self.slot = -1
        self.heard = True
        """Whether the client sent anything since the last look."""
        self.sent = True
        self.unanswered = 0
        self._stalled_down = 0.0
        """Since when the client takes no more; 0: it does."""
        self._stalled_up = 0.0

    def join(self, *, to_client: bytes, from_client: bytes, from_runner: bytes) -> None:
        """Begin: first our answer, then what came behind both heads, then what comes."""
        for transport in (self.client, self.runner):
            transport.set_write_buffer_limits(high=0)
        self.client.set_protocol(ClientSide(self))
        self.runner.set_protocol(RunnerSide(self))
        self.client.write(to_client)
        self.sessions.add(self)
        if from_runner:
            self.from_runner(from_runner)
        if from_client:
            self.from_client(from_client)
        for transport, stalled in (
            (self.client, self._stalled_up), (self.runner, self._stalled_down),
        ):  # fmt: skip
            if not stalled and not transport.is_closing():
                transport.resume_reading()
        if self.runner.is_closing():
            self.runner_gone()

    # The way of every byte.

    @property
    def buffer(self) -> memoryview:
        return self.sessions.buffer

    def from_runner(self, data: bytes | memoryview) -> None:
        try:
            self.down.feed(data)
        except Violation:
            self._runner_violates()
            return
        if self.state <= HALF:
            _pass_on(self.client, data)
            self.sent = True
            self.sessions.counters.down_bytes += len(data)
        elif self.state == CUTTING and self.down.boundary >= 0:
            _pass_on(self.client, data[: self.down.boundary])
            self._say_close()

    def from_client(self, data: bytes | memoryview) -> None:
        self.heard = True
        try:
            self.up.feed(data)
        except Violation as violation:
            self._client_violates(violation)
            return
        if self.state == OPEN:
            if not self.runner.is_closing():
                _pass_on(self.runner, data)
                self.sessions.counters.up_bytes += len(data)
        elif self.state == ENDING and self.up.closed:
            self.client.close()

    # Back-pressure, both ways.

    def client_is_full(self) -> None:
        self._stalled_down = self.sessions.loop.time()
        if not self.runner.is_closing():
            self.runner.pause_reading()

    def client_takes_more(self) -> None:
        self.sessions.counters.down_stalled += self.sessions.loop.time() - self._stalled_down
        self._stalled_down = 0.0
        if not self.runner.is_closing():
            self.runner.resume_reading()

    def runner_is_full(self) -> None:
        self._stalled_up = self.sessions.loop.time()
        if not self.client.is_closing():
            self.client.pause_reading()

    def runner_takes_more(self) -> None:
        self.sessions.counters.up_stalled += self.sessions.loop.time() - self._stalled_up
        self._stalled_up = 0.0
        if not self.client.is_closing():
            self.client.resume_reading()

    # Time.

    def look(self, now: float) -> None:
        """Do what is due: end it, send a ping, or find that nobody answers."""
        if now >= self.deadline:
            if self.state == OPEN:
                self.cut(*self.cause)
            else:
                self.give_up()
            return
        if self.state == OPEN:
            self._keep_alive()
        self.sessions.look_at(self, now + self.sessions.look_seconds)

    def _keep_alive(self) -> None:
        if self.heard:
            self.heard, self.unanswered = False, 0
        elif self.unanswered >= MAX_UNANSWERED:
            self._count("silent")
            self.give_up()
            return
        if self.sent:
            self.sent = False
        elif self.down.between and not self.down.closed:
            self.client.write(PING)
            self.unanswered += 1
        elif self._stalled_down:
            self.unanswered += 1

    # How it ends.

    def cut_after(self, seconds: float, code: int, reason: str) -> None:
        """End it soon, unless the runner does before."""
        until = self.sessions.loop.time() + seconds
        if self.state == OPEN and until < self.deadline:
            self.deadline, self.cause = until, (code, reason)
            self.sessions.look_at(self, until)

    def cut(self, code: int, reason: str, *, why: str | None = None) -> None:
        """End it with a close, at the end of the frame under way."""
        if self.state not in (OPEN, HALF):
            return
        if self.state == OPEN:
            self._count(why or str(int(code)))
        self.cause = (code, reason)
        if self.down.closed:
            self._linger()
        elif self.down.between:
            self._say_close()
        else:
            self.state = CUTTING
            self._give_up_in(CUT_SECONDS)

    def runner_gone(self) -> None:
        """Go on as it was left: with the runner's own close, or with one that says it is lost."""
        if self.state == ENDING:
            return
        self.runner.close()
        if self.state == HALF:
            self.state = ENDING
            self.client.close()
            self._give_up_in(LINGER_SECONDS)
        elif self.down.closed:
            self._count("ended")
            self._linger()
        elif self.down.between:
            self.cut(CloseCode.RUNNER_LOST, "the runner is gone")
        else:
            self._count("runner")
            self.give_up()

    def client_ends(self) -> None:
        """Pass on that it sends no more; what is still on its way to it has a little time."""
        if self.state == ENDING:
            self.client.close()
        elif self.state == OPEN:
            self.state = HALF
            self._count("client")
            if not self.runner.is_closing():
                self.runner.write_eof()
            self._give_up_in(LINGER_SECONDS)

    def client_gone(self) -> None:
        self.sessions.discard(self)
        if self.state == OPEN:
            self._count("client")
        self.state = ENDING
        if self.runner.get_write_buffer_size():  # also of one that is closing: it may never read
            self.sessions.loop.call_later(LINGER_SECONDS, self.runner.abort)
        self.runner.close()

    def _client_violates(self, violation: Violation) -> None:
        if self.state == OPEN:
            self.cut(violation.code, violation.reason, why="client violation")
        elif self.state == ENDING:
            self.give_up()

    def _runner_violates(self) -> None:
        if self.state == OPEN and self.down.between and not self.down.closed:
            self.cut(CloseCode.INTERNAL, "the runner is not understood", why="runner violation")
        else:
            self._count("runner violation")
            self.give_up()

    def _say_close(self) -> None:
        self.client.write(close_frame(*self.cause))
        self._linger()

    def _linger(self) -> None:
        """Wait for the client's close: to end with its bytes unread would reset the connection,
        and our close with it (RFC 9112 section 9.6 has the same).
        """
        self.state = ENDING
        self.runner.close()
        if self.up.closed:
            self.client.close()
        elif not self.client.is_closing():
            self.client.resume_reading()
        self._give_up_in(LINGER_SECONDS)

    def _give_up_in(self, seconds: float) -> None:
        self.deadline = self.sessions.loop.time() + seconds
        self.sessions.look_at(self, self.deadline)

    def give_up(self) -> None:
        self.state = ENDING
        self.client.abort()
        self.runner.abort()

    def _count(self, why: str) -> None:
        self.sessions.counters.closes[why] += 1
