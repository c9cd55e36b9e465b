"""A client until it is let in: one head, one admission, one answer. Then nothing of it is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from gatekeeper.kernel import ids
from gatekeeper.kernel.errors import ErrorCode
from gatekeeper.terminals.gateway.admission import NO_ANSWER
from gatekeeper.terminals.gateway.splice import Session
from gatekeeper.terminals.protocol import handshake
from gatekeeper.terminals.protocol.handshake import Refused, Upgrade
from gatekeeper.terminals.protocol.http import HeadReader, Malformed, read_request

if TYPE_CHECKING:
    from gatekeeper.kernel.random import Random
    from gatekeeper.terminals.gateway.admission import Admission, Admitted
    from gatekeeper.terminals.gateway.counting import Counters
    from gatekeeper.terminals.gateway.sessions import Sessions

log = structlog.get_logger("gatekeeper.gateway")

ADMIT_SECONDS: Final = 12.0
"""For all of an admission; each step has less of its own."""
LINGER_SECONDS: Final = 2.0
"""For a refusal to arrive."""
RETRY_SECONDS: Final = 5.0
MAX_OPENING: Final = 2_000
"""Clients that are not joined yet, beside `max_sockets`: of more, the longest silent goes."""
OPENING_PART: Final = 16
"""That part of the files that may be open is theirs at most."""
OWN_FILES: Final = 64
"""Of a process, beside its clients."""

FULL: Final = Refused(
    status=503,
    code=ErrorCode.SERVICE_UNAVAILABLE,
    detail="too many clients are attached here",
    retry_after=RETRY_SECONDS,
)
DRAINING: Final = Refused(
    status=503,
    code=ErrorCode.SERVICE_UNAVAILABLE,
    detail="this gateway stops",
    retry_after=1.0,
)
TOO_SLOW: Final = Refused(
    status=408, code=ErrorCode.VALIDATION_ERROR, detail="the request took too long to arrive"
)
FAILED: Final = Refused(
    status=500, code=ErrorCode.INTERNAL_ERROR, detail="something failed on our side"
)


class Room(NamedTuple):
    """How many clients a process takes: joined ones, and such that are not yet."""

    joined: int
    opening: int


def room(wanted: int, files: int) -> Room:
    """Say how many there is room for where so many files may be open: a client has one, and one
    that is let in a runner too. Without room nobody could be told so, and nobody be let in.
    """
    left = max(files - OWN_FILES, 0)
    opening = max(min(MAX_OPENING, left // OPENING_PART), 1)
    return Room(min(wanted, (left - opening) // 2), opening)


class Gate:
    """What all clients of a process come through."""

    def __init__(
        self,
        *,
        admission: Admission,
        sessions: Sessions,
        counters: Counters,
        random: Random,
        room: Room,
        head_seconds: float,
    ) -> None:
        self.admission = admission
        self.sessions = sessions
        self.counters = counters
        self.random = random
        self.room = room
        self.head_seconds = head_seconds
        self.draining = False
        self.opening: dict[OpeningClient, None] = {}
        """In the order in which they came; also those whose refusal is on its way."""
        self.admitting: set[OpeningClient] = set()
        """Those of them that are being let in."""

    def refuses_all(self) -> Refused | None:
        """Say why nobody is let in now, whoever it is."""
        if self.draining:
            return DRAINING
        taken = len(self.sessions) + len(self.admitting)
        return FULL if taken >= self.room.joined else None

    def make_room(self) -> None:
        """Let go of who came first and has not said what it wants; an honest client says it at
        once, so whoever keeps thousands of silent sockets open keeps out nobody else.
        """
        if len(self.opening) < self.room.opening:
            return
        silent = (client for client in self.opening if client not in self.admitting)
        next(silent, next(iter(self.opening))).make_room()

    def client(self) -> OpeningClient:
        return OpeningClient(self)


class OpeningClient(asyncio.Protocol):
    """One connection, until a session takes its place or it is refused."""

    __slots__ = ("_began", "_ended", "_gate", "_reader", "_task", "_timer", "_transport")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._reader = HeadReader()
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        gate = self._gate
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        gate.make_room()
        gate.opening[self] = None
        self._timer = gate.sessions.loop.call_later(gate.head_seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        found = self._reader.feed(data)
        if isinstance(found, Malformed):
            self._refuse(_of(found))
        elif found is not None:
            self._take(*found)

    def eof_received(self) -> bool:
        """Whoever sends no more before it was answered is gone, or has had its answer."""
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._end()
        self._gate.opening.pop(self, None)
        if self._task is not None:
            self._task.cancel()

    def drain(self) -> None:
        """Refuse it, unless it is being let in: that takes seconds at most."""
        if self._task is None and not self._ended:
            self._refuse(DRAINING)

    def make_room(self) -> None:
        if not self._ended:
            self._gate.counters.connects["not heard"] += 1
        self.abort()

    def abort(self) -> None:
        """Drop it, and at once: it does not count any more."""
        self._end()
        self._gate.opening.pop(self, None)
        self._transport.abort()

    def _take(self, head: bytes, rest: bytes) -> None:
        self._timer.cancel()
        loop = self._gate.sessions.loop
        self._began = loop.time()
        request = read_request(head)
        upgrade = (
            _of(request) if isinstance(request, Malformed) else handshake.read_upgrade(request)
        )
        if isinstance(upgrade, Upgrade):
            upgrade = self._gate.refuses_all() or upgrade
        if isinstance(upgrade, Refused):
            self._refuse(upgrade)
        else:
            self._transport.pause_reading()
            self._timer = loop.call_later(ADMIT_SECONDS, self._too_slow)
            self._gate.admitting.add(self)
            self._task = loop.create_task(self._admit(upgrade, rest))

    async def _admit(self, upgrade: Upgrade, rest: bytes) -> None:
        try:
            admitted = await self._gate.admission.admit(upgrade)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody is let in
            log.error("admission failed", error=type(error).__name__)  # noqa: TRY400
            admitted = FAILED
        if isinstance(admitted, Refused):
            self._refuse(admitted)
        else:
            self._join(upgrade, admitted, rest)

    def _join(self, upgrade: Upgrade, admitted: Admitted, rest: bytes) -> None:
        gate, self._task = self._gate, None
        self._end()
        gate.opening.pop(self, None)
        if self._transport.is_closing():
            admitted.runner.abort()
            return
        now = gate.sessions.loop.time()
        session = Session(
            gate.sessions,
            terminal=upgrade.terminal,
            client=self._transport,
            runner=admitted.runner,
            deadline=now + admitted.seconds_left,
        )
        gate.counters.accepted(now - self._began)
        session.join(
            to_client=handshake.accepted(upgrade), from_client=rest, from_runner=admitted.rest
        )

    def _too_slow(self) -> None:
        if self._ended:
            self._transport.abort()
        elif self._task is not None:
            self._task.cancel()
            self._refuse(NO_ANSWER)
        elif self._reader.begun:
            self._refuse(TOO_SLOW)
        else:
            self._transport.close()

    def _refuse(self, refused: Refused) -> None:
        """Say why, and leave the words time to arrive.

        To close with bytes unread would reset the connection, and the words with it (RFC 9112
        section 9.6).
        """
        gate, transport, self._task = self._gate, self._transport, None
        gate.counters.connects[refused.code] += 1
        correlation = ids.correlation_id(gate.random.bytes(ids.RANDOM_BYTES))
        log.info("refused", status=refused.status, detail=refused.detail, correlationId=correlation)
        self._end()
        if transport.is_closing():
            return
        transport.write(handshake.refusal(refused, correlation_id=correlation))
        transport.write_eof()
        transport.resume_reading()
        self._timer = gate.sessions.loop.call_later(LINGER_SECONDS, self._too_slow)

    def _end(self) -> None:
        self._ended = True
        self._timer.cancel()
        self._gate.admitting.discard(self)


def _of(malformed: Malformed) -> Refused:
    return Refused(
        status=malformed.status, code=ErrorCode.VALIDATION_ERROR, detail=malformed.reason
    )
