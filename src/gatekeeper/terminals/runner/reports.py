"""What the runner tells the control plane by itself: at every event, and every few seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httpx
import structlog
from pydantic import ValidationError

from gatekeeper.kernel.errors import Refusal
from gatekeeper.platform.crypto.envelope import MAX_ENVELOPE_CHARS
from gatekeeper.platform.crypto.party import Party
from gatekeeper.platform.http import envelopes
from gatekeeper.terminals.runner.attesting import Attestor
from gatekeeper.wire.runner import (
    MAX_REPORTED,
    REPORT_PATH,
    ReportAnswer,
    RunnerReport,
    TerminalReport,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.kernel.backoff import Backoff
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.envelope import ReplayGuard
    from gatekeeper.platform.crypto.party import Question
    from gatekeeper.terminals.runner.host import Host
    from gatekeeper.wire.runner import LaunchOrder, TerminalEvent

log = structlog.get_logger("gatekeeper.runner")

EVERY_SECONDS: Final = 5.0
GATHER_SECONDS: Final = 0.02
"""What happens together is told together."""
ANSWER_SECONDS: Final = 10.0
MAX_REPORT_BYTES: Final = 500_000
"""Of a report's events; the report names each terminal, and its envelope is a third larger."""


class Reporter:
    """Tells one control plane, and does what it answers. What was not taken is told again."""

    def __init__(
        self,
        host: Host,
        *,
        url: str,
        name: str,
        boot: str,
        key: Ed25519PrivateKey,
        control_plane: str,
        trusted: tuple[Ed25519PublicKey, ...],
        seen: ReplayGuard,
        backoff: Backoff,
        clock: Clock,
        random: Random,
        client: httpx.AsyncClient,
    ) -> None:
        self._host = host
        self._url = url.rstrip("/") + REPORT_PATH
        self._name = name
        self._boot = boot
        self._control_plane = control_plane
        self._party = Party(
            name=name,
            key=key,
            trusted={control_plane: trusted},
            clock=clock,
            random=random,
            seen=seen,
        )
        self._backoff = backoff
        self._random = random
        self._client = client
        self._attestor = Attestor(name=name, key=key, clock=clock)
        self._wake = asyncio.Event()
        self._ends: set[asyncio.Task[None]] = set()
        self._answered_at = asyncio.get_running_loop().time()

    @property
    def answered_ago(self) -> float:
        """Seconds since a report was taken, or since the start."""
        return asyncio.get_running_loop().time() - self._answered_at

    def wake(self) -> None:
        """Report soon: something happened."""
        self._wake.set()

    async def run(self) -> None:
        """Report until cancelled."""
        failures = 0
        while True:
            self._wake.clear()
            failures = 0 if await self.report() else failures + 1
            if failures:
                await asyncio.sleep(self._backoff.pause(failures, self._random))
                continue
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._wake.wait()
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                continue

    async def close(self) -> None:
        for task in self._ends:
            task.cancel()
        await self._client.aclose()

    async def report(self) -> bool:
        """Tell once; False when that was not answered."""
        report = self._report()
        payload = report.model_dump_json(by_alias=True).encode()
        answer = await self._exchange(
            self._party.ask(payload, reader=self._control_plane, purpose="report")
        )
        if answer is None:
            return False
        self._answered_at = asyncio.get_running_loop().time()
        self._take(report, answer)
        return True

    async def _exchange(self, question: Question) -> ReportAnswer | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._client.post(
                    self._url, content=question.envelope, headers=envelopes.HEADERS
                )
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("the control plane takes no report", error=type(error).__name__)
            return None
        if response.status_code != httpx.codes.OK:
            log.warning("the control plane takes no report", status=response.status_code)
            return None
        if len(response.content) > MAX_ENVELOPE_CHARS["result"]:
            return None
        return self._opened(response.content.decode("latin-1"), question)

    def _opened(self, text: str, question: Question) -> ReportAnswer | None:
        opened = self._party.open_answer(text, question)
        if isinstance(opened, Refusal):
            log.warning("an answer to a report is not believed", detail=opened.detail)
            return None
        try:
            return ReportAnswer.model_validate_json(opened.payload)
        except ValidationError:
            log.warning("an answer to a report has the wrong shape")
            return None

    def _report(self) -> RunnerReport:
        """Gather what is new, as much as one report holds."""
        terminals: list[TerminalReport] = []
        room, events_left = MAX_REPORT_BYTES, MAX_REPORTED
        for session in self._host.sessions[:MAX_REPORTED]:
            first, waiting = session.ledger.tell(events_left)
            events, size = self._fitting(session.order, waiting, room)
            room, events_left = room - size, events_left - len(events)
            terminals.append(
                TerminalReport(
                    terminal=session.order.terminal,
                    instance=session.order.instance,
                    live=session.live,
                    first=first,
                    events=events,
                )
            )
        return RunnerReport(
            runner=self._name,
            boot=self._boot,
            sandbox=self._host.sandbox,
            capacity=self._host.capacity,
            terminals=tuple(terminals),
        )

    def _fitting(
        self, order: LaunchOrder, waiting: Sequence[TerminalEvent], room: int
    ) -> tuple[tuple[TerminalEvent, ...], int]:
        """Sign events for as long as there is room for them; return their size too."""
        events: list[TerminalEvent] = []
        size = 0
        for event in waiting:
            signed = self._attestor.attested(order.terminal, order.instance, event)
            more = len(signed.model_dump_json())
            if size + more > room:
                break
            events.append(signed)
            size += more
        return tuple(events), size

    def _take(self, report: RunnerReport, answer: ReportAnswer) -> None:
        for instance, last in answer.taken.items():
            self._host.taken(instance, last)
        told = {terminal.instance for terminal in report.terminals}
        for instance in told & set(answer.end):
            task = asyncio.create_task(self._host.end_instance(instance))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)
        if any(session.ledger.waiting for session in self._host.sessions):
            self.wake()
