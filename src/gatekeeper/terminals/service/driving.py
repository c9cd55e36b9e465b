"""What programs do with a terminal without attaching: type, look, wait, read the recording."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.audit import Actor, AuditKind
from gatekeeper.kernel.errors import ErrorCode, InputError, Refusal
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.terminals import errors
from gatekeeper.terminals.evidence import terminal_event
from gatekeeper.terminals.model import Mode
from gatekeeper.terminals.moving import launcher_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.terminals.model import Size, Terminal
    from gatekeeper.terminals.ports import Launcher, Recordings, TerminalStore
    from gatekeeper.terminals.service.seeing import Seeing

MOST_WAITS: Final = 8
"""Of one caller at a time, in this process: each holds a connection to a runner."""


class DriveService:
    """The use-cases behind `/terminals/{id}/input`, `screen`, `wait` and `recording`."""

    def __init__(
        self,
        *,
        store: TerminalStore,
        launchers: Mapping[str, Launcher],
        recordings: Recordings,
        seeing: Seeing,
    ) -> None:
        self._store = store
        self._launchers = launchers
        self._recordings = recordings
        self._seeing = seeing
        self._waits = Counter[str]()

    async def send_input(
        self, principal: Principal, terminal: TerminalId, data: str, correlation_id: str
    ) -> Refusal | None:
        """Type into a terminal, past the lease: for whom it belongs to, as no viewer sees who did.

        The evidence comes first: nothing is typed that it does not tell of.
        """
        async with self._store.transaction() as unit:
            found = await unit.lock(terminal)
            if found is None or not self._seeing.may_see(principal, found):
                return errors.no_such_terminal(terminal)
            if (refusal := self._seeing.refuse_mode(principal, found, Mode.WRITE)) is not None:
                return refusal
            if found.status is not SessionStatus.READY:
                return errors.not_ready(found.status)
            await unit.record(
                terminal_event(
                    AuditKind.TERMINAL_INPUT_SENT,
                    found,
                    at=await unit.now(),
                    actor=Actor.of(principal),
                    correlation_id=correlation_id,
                    chars=len(data),
                )
            )
        await self._launcher(found).send_input(found.id, found.instance, data)
        return None

    async def screen(
        self, principal: Principal, terminal: TerminalId, correlation_id: str
    ) -> tuple[Sequence[str], Size] | Refusal:
        """Return what is on the screen, or was when the terminal ended."""
        found = await self._looked_at(principal, terminal, correlation_id)
        if isinstance(found, Refusal):
            return found
        if found.status is SessionStatus.READY:
            return await self._launcher(found).screen(found.id, found.instance)
        if found.recording_deleted_at is not None:
            return errors.recording_deleted(found.id, found.recording_deleted_at)
        if found.ended is None or found.ended.last_screen is None:
            return errors.not_ready(found.status)
        return found.ended.last_screen.split("\n"), found.size

    async def wait_for_text(
        self,
        principal: Principal,
        terminal: TerminalId,
        text: str,
        seconds: float,
        correlation_id: str,
    ) -> bool | Refusal:
        found = await self._looked_at(principal, terminal, correlation_id)
        if isinstance(found, Refusal):
            return found
        if found.status is SessionStatus.READY:
            return await self._wait(principal, found, text, seconds)
        if found.ended is None:
            return errors.not_ready(found.status)
        return text in (found.ended.last_screen or "")

    async def _wait(
        self, principal: Principal, terminal: Terminal, text: str, seconds: float
    ) -> bool | Refusal:
        if self._waits[principal.key] >= MOST_WAITS:
            return errors.too_many_waits(MOST_WAITS)
        self._waits[principal.key] += 1
        try:
            return await self._launcher(terminal).wait_for_text(
                terminal.id, terminal.instance, text, seconds
            )
        finally:
            self._waits[principal.key] -= 1
            if not self._waits[principal.key]:
                del self._waits[principal.key]

    async def recording(
        self, principal: Principal, terminal: TerminalId, correlation_id: str
    ) -> AsyncIterator[bytes] | Refusal:
        """Give the recording, as far as there is one by now."""
        found = await self._seen(principal, terminal)
        if isinstance(found, Refusal):
            return found
        stream = self._recordings.read(found.id)
        first = await _first(stream)
        async with self._store.transaction() as unit:
            current = await unit.lock(found.id)  # nobody deletes it meanwhile
            if current is not None and current.recording_deleted_at is not None:
                await stream.aclose()
                return errors.recording_deleted(found.id, current.recording_deleted_at)
            if first is None:
                return errors.no_recording(terminal)
            await unit.record(
                terminal_event(
                    AuditKind.TERMINAL_RECORDING_READ,
                    found,
                    at=await unit.now(),
                    actor=Actor.of(principal),
                    correlation_id=correlation_id,
                )
            )
        return _whole(first, stream)

    async def _looked_at(
        self, principal: Principal, terminal: TerminalId, correlation_id: str
    ) -> Terminal | Refusal:
        """Find a terminal. Whoever looks at another's is no viewer that anybody sees: that is
        told by the evidence, and before it is shown.
        """
        found = await self._seen(principal, terminal)
        if isinstance(found, Refusal) or found.requester == principal.key:
            return found
        async with self._store.transaction() as unit:
            await unit.record(
                terminal_event(
                    AuditKind.TERMINAL_SCREEN_READ,
                    found,
                    at=await unit.now(),
                    actor=Actor.of(principal),
                    correlation_id=correlation_id,
                )
            )
        return found

    async def _seen(self, principal: Principal, terminal: TerminalId) -> Terminal | Refusal:
        found = await self._store.get(terminal)
        if found is None or not self._seeing.may_see(principal, found):
            return errors.no_such_terminal(terminal)
        return found

    def _launcher(self, terminal: Terminal) -> Launcher:
        return launcher_of(self._launchers, terminal)


async def _first(stream: AsyncGenerator[bytes]) -> bytes | None:
    """Return how a recording begins; None where there is none."""
    try:
        return await anext(stream, b"")
    except InputError as error:
        if error.code is ErrorCode.NOT_FOUND:
            return None
        raise


async def _whole(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for part in rest:
            yield part
