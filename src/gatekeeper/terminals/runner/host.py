"""All terminals of this process: orders in, results out; each order may come again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal

import structlog

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError
from gatekeeper.kernel.ids import SessionId
from gatekeeper.terminals.errors import RunnerRejectedError
from gatekeeper.terminals.model import Bundle, Ending
from gatekeeper.terminals.ports import BoundLogin
from gatekeeper.terminals.runner.equipment import Place
from gatekeeper.terminals.runner.programs import screen_result, wait_for_text
from gatekeeper.terminals.runner.session import LINGER_SECONDS, Session
from gatekeeper.wire import runner as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gatekeeper.terminals.runner.equipment import Equipment
    from gatekeeper.terminals.runner.parts import Door


log = structlog.get_logger("gatekeeper.runner")

MAX_REMEMBERED: Final = 100_000
"""Ended terminals, of which it is known that they are never started again."""
STOP_SECONDS: Final = 20.0

_WHY: Final = {
    "expired": Ending.EXPIRED,
    "revoked": Ending.REVOKED,
    "idle": Ending.IDLE,
    "exited": Ending.EXITED,
    "launch_failed": Ending.LAUNCH_FAILED,
}


class Host:
    """Holds terminals by their instance, and remembers which have been here."""

    def __init__(
        self,
        *,
        folder: Path,
        recordings: Path,
        address: str,
        capacity: int,
        equipment: Equipment,
        make_door: Callable[[Path], Door],
    ) -> None:
        self._work = folder / "work"
        self._recordings = recordings
        self._address = address
        self._equipment = equipment
        self._make_door = make_door
        self.capacity = capacity
        self._sessions: dict[str, Session] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        """Terminals, and instances, that were ended here."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._stopping = False

    @property
    def sandbox(self) -> Literal["bubblewrap", "landlock", "none"]:
        return self._equipment.sandbox.name

    @property
    def sessions(self) -> Sequence[Session]:
        return tuple(self._sessions.values())

    @property
    def live(self) -> int:
        return sum(session.live for session in self._sessions.values())

    def find(self, terminal: str, instance: str) -> Session | None:
        """Return a terminal that takes clients, or whose last words may still be had."""
        session = self._sessions.get(instance)
        return session if session and session.order.terminal == terminal else None

    async def carry_out(self, order: wire.Order) -> wire.Result:
        """Carry out an order; what fails is a result too."""
        try:
            return await self._dispatch(order)
        except GatekeeperError as error:
            return wire.FailedResult(
                code=error.code, message=error.detail[:2000], retryable=error.retryable
            )

    async def end_instance(self, instance: str) -> None:
        """End what the control plane does not want any more."""
        if (session := self._sessions.get(instance)) is not None:
            self._remember(session.order.terminal, instance)
            await session.end(Ending.REVOKED)

    def taken(self, instance: str, last: int) -> None:
        """Note which events the control plane has; what ended, and is told of, is let go."""
        session = self._sessions.get(instance)
        if session is None:
            return
        session.ledger.taken(last)
        if session.live or session.ledger.waiting:
            return
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._let_go, session)

    async def stop(self) -> None:
        """End all terminals; nothing is started any more."""
        self._stopping = True
        ends = [asyncio.create_task(s.end(Ending.RUNNER_LOST)) for s in self.sessions if s.live]
        if ends:
            _done, stuck = await asyncio.wait(ends, timeout=STOP_SECONDS)
            if stuck:
                log.error("terminals do not end", count=len(stuck))

    async def _dispatch(self, order: wire.Order) -> wire.Result:
        match order:
            case wire.LaunchOrder():
                async with self._locks.setdefault(order.terminal, asyncio.Lock()):
                    return await self._launch(order)
            case wire.EndOrder():
                async with self._locks.setdefault(order.terminal, asyncio.Lock()):
                    return await self._end(order)
            case wire.BindOrder():
                session = self._known(order)
                if session.live:  # of one that is over its end is told
                    await session.bind(_login(order))
                return wire.DoneResult()
            case wire.InputOrder():
                if not self._live(order).stream.type(order.data.encode()):
                    msg = "the command does not read its input"
                    raise RunnerRejectedError(msg, retryable=True)
                return wire.DoneResult()
            case wire.ScreenOrder():
                return screen_result(await self._known(order).stream.screen.look())
            case wire.WaitOrder():
                stream = self._live(order).stream
                return wire.DoneResult(found=await wait_for_text(stream, order.text, order.seconds))

    async def _launch(self, order: wire.LaunchOrder) -> wire.Result:
        """Start a terminal, or find the one that this order started, which may be over by now."""
        known = self.find(order.terminal, order.instance)
        if known is not None and order.instance not in self._gone:
            return self._launched(known, already=True)
        self._refuse(order)
        session = await self._make(order)
        try:
            await session.start()
        except (GatekeeperError, OSError) as error:
            self._sessions.pop(order.instance, None)  # first: its end is told by this result alone
            await session.end(Ending.LAUNCH_FAILED)
            await asyncio.to_thread(_remove_unused, self._recordings / order.terminal)
            if isinstance(error, GatekeeperError):
                raise
            log.exception("a terminal could not be started", terminal=order.terminal)
            msg = "the sandbox could not be started"
            raise GatekeeperError(ErrorCode.SANDBOX_UNAVAILABLE, msg, retryable=True) from error
        self._equipment.counters.launches += 1
        log.info("terminal launched", terminal=order.terminal, sandbox=session.sandbox)
        return self._launched(session, already=False)

    def _refuse(self, order: wire.LaunchOrder) -> None:
        if self._stopping or self.live >= self.capacity:
            msg = "this runner has no place"
            raise RunnerRejectedError(msg, retryable=True)
        if (
            order.terminal in self._gone
            or order.instance in self._sessions
            or (self._recordings / order.terminal).exists()  # in an earlier life of the runner
        ):
            msg = "the terminal was here before; it is not started again"
            raise RunnerRejectedError(msg)

    async def _make(self, order: wire.LaunchOrder) -> Session:
        place = Place(
            doors=self._work / order.instance / "doors",
            work=self._work / order.instance / "bundle",
            recording=self._recordings / order.terminal,
        )
        await asyncio.to_thread(place.make)
        session = Session(
            order,
            bundle=_bundle(order),
            door=self._make_door(place.doors) if order.database else None,
            place=place,
            equipment=self._equipment,
        )
        self._sessions[order.instance] = session
        return session

    async def _end(self, order: wire.EndOrder) -> wire.GoneResult:
        session = self.find(order.terminal, order.instance)
        self._remember(order.terminal, order.instance)
        self._locks.pop(order.terminal, None)
        if session is None:
            return wire.GoneResult(
                terminal=order.terminal,
                instance=order.instance,
                existed=False,
                gone=True,
                processes_ended=0,
                ended=None,
            )
        await session.end(_WHY[order.why])
        return wire.GoneResult(
            terminal=order.terminal,
            instance=order.instance,
            existed=True,
            gone=not session.left,
            processes_ended=session.processes_ended,
            ended=session.ended,
            left=tuple(text[:200] for text in session.left[:50]),
        )

    def _known(
        self, order: wire.ScreenOrder | wire.WaitOrder | wire.InputOrder | wire.BindOrder
    ) -> Session:
        session = self.find(order.terminal, order.instance)
        if session is None:
            msg = "there is no such terminal here"
            raise GatekeeperError(ErrorCode.NOT_FOUND, msg)
        return session

    def _live(self, order: wire.WaitOrder | wire.InputOrder) -> Session:
        session = self._known(order)
        if not session.live:
            msg = "the terminal has ended"
            raise GatekeeperError(ErrorCode.STATE_CONFLICT, msg)
        return session

    def _launched(self, session: Session, *, already: bool) -> wire.LaunchedResult:
        return wire.LaunchedResult(
            terminal=session.order.terminal,
            instance=session.order.instance,
            address=self._address,
            sandbox=self.sandbox,
            already=already,
            verifier=session.verifier,
        )

    def _let_go(self, session: Session) -> None:
        self._remember(session.order.terminal, session.order.instance)
        self._sessions.pop(session.order.instance, None)

    def _remember(self, *names: str) -> None:
        for name in names:
            self._gone[name] = None
        while len(self._gone) > MAX_REMEMBERED:
            self._gone.popitem(last=False)


def _bundle(order: wire.LaunchOrder) -> Bundle | None:
    wanted = order.bundle
    if wanted is None:
        return None
    return Bundle(url=wanted.url, sha256=wanted.sha256, install=wanted.install)


def _login(order: wire.BindOrder) -> BoundLogin:
    return BoundLogin(
        session=SessionId(order.session),
        host=order.host,
        port=order.port,
        database=order.database,
        sslmode=order.sslmode,
        username=order.username,
    )


def _remove_unused(recording: Path) -> None:
    """Remove the folder of a terminal that never was: a second try is to be taken."""
    for path in recording.glob("*"):
        path.unlink()
    recording.rmdir()
