"""`POST /runners/report`: runners tell of their terminals, under signed envelopes.

Nobody has a token here: who speaks is known by the signature alone, and the store is not
asked anything before that was checked.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn

from fastapi import APIRouter, Response  # read at run time
from pydantic import ValidationError

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.ids import TerminalId
from gatekeeper.platform.crypto.envelope import MAX_ENVELOPE_CHARS
from gatekeeper.platform.crypto.party import Party
from gatekeeper.platform.crypto.statements import StatementCheck
from gatekeeper.platform.http import envelopes
from gatekeeper.platform.http.problems import RefusedError
from gatekeeper.terminals.model import Ended, Ending, Mode, Stage
from gatekeeper.terminals.ports import Runner
from gatekeeper.terminals.reporting import (
    Attached,
    LeasePassed,
    Reached,
    Recorded,
    Report,
    Reported,
    Reporting,
    Told,
)
from gatekeeper.wire import runner as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.envelope import Opened

BODY_LIMITS: Final = {wire.REPORT_PATH: MAX_ENVELOPE_CHARS["report"]}


class Doorkeeper:
    """Knows a runner by its signature, and signs what it is answered."""

    def __init__(
        self,
        *,
        name: str,
        key: Ed25519PrivateKey,
        runner_keys: Mapping[str, Ed25519PublicKey],
        clock: Clock,
        random: Random,
    ) -> None:
        self._party = Party(
            name=name,
            key=key,
            trusted={runner: (runner_key,) for runner, runner_key in runner_keys.items()},
            clock=clock,
            random=random,
        )
        self._clock = clock
        self._statements = StatementCheck(runner_keys)

    def admit(self, envelope: str) -> Opened:
        opened = self._party.open(envelope, "report")
        if isinstance(opened, Refusal):
            _refuse(ErrorCode.AUTHENTICATION_ERROR, opened.detail)
        return opened

    def check(self, said: wire.RunnerReport) -> None:
        """Refuse a report of which the evidence would hold what nobody can verify."""
        now = self._clock.now()
        for one in said.terminals:
            for event in one.events:
                if isinstance(event, wire.Attested) and not self._statements.is_good(
                    event.receipt,
                    wire.statement(one.terminal, one.instance, event),
                    runner=said.runner,
                    now=now,
                ):
                    _refuse(ErrorCode.VALIDATION_ERROR, "an event's receipt says something else")

    def answer(self, answer: wire.ReportAnswer, opened: Opened) -> str:
        return self._party.answer(answer.model_dump_json(by_alias=True).encode(), opened)


def report_routes(reporting: Reporting, doorkeeper: Doorkeeper) -> APIRouter:
    router = APIRouter(include_in_schema=False)  # spoken by runners, not by clients of the API

    @router.post(wire.REPORT_PATH)
    async def report(envelope: envelopes.Text) -> Response:
        """Take what a runner tells, and say what was taken and which terminals are to end."""
        opened = doorkeeper.admit(envelope)
        answer = await reporting.take(_report(opened, doorkeeper.check))
        said = wire.ReportAnswer(taken=dict(answer.taken), end=answer.end)
        return envelopes.answered(doorkeeper.answer(said, opened))

    return router


def _report(opened: Opened, check: Callable[[wire.RunnerReport], None]) -> Report:
    try:
        said = wire.RunnerReport.model_validate_json(opened.payload)
        terminals = tuple(_reported(one) for one in said.terminals)
    except (ValidationError, ValueError):
        _refuse(ErrorCode.VALIDATION_ERROR, "the report has the wrong shape")
    if said.runner != opened.sender:
        _refuse(ErrorCode.AUTHENTICATION_ERROR, "the report is about another runner")
    check(said)
    runner = Runner(name=said.runner, boot=said.boot, sandbox=said.sandbox, capacity=said.capacity)
    return Report(runner=runner, terminals=terminals)


def _reported(said: wire.TerminalReport) -> Reported:
    return Reported(
        terminal=TerminalId(said.terminal),
        instance=said.instance,
        live=said.live,
        first=said.first,
        events=tuple(_told(event) for event in said.events),
    )


def _told(event: wire.TerminalEvent) -> Told:
    """Raises `ValueError` for a word that there is not."""
    match event:
        case wire.StageEvent():
            return Reached(stage=Stage(event.stage), ago=timedelta(seconds=event.seconds_ago))
        case wire.AttachedEvent():
            return Attached(
                subject=event.subject,
                mode=Mode(event.mode),
                protocol=event.protocol,
                signed=event.receipt,
            )
        case wire.LeaseEvent():
            return LeasePassed(holder=event.holder, signed=event.receipt)
        case wire.SegmentEvent():
            return Recorded(
                number=event.number, head=event.head, bytes=event.bytes, signed=event.receipt
            )
        case wire.EndedEvent():
            ended = event.ended
            return Ended(
                ending=Ending(ended.ending),
                exit_code=ended.exit_code,
                signal=ended.signal,
                last_screen=ended.last_screen,
                recording_head=ended.recording_head,
                recording_bytes=ended.recording_bytes,
                output_bytes=ended.output_bytes,
                signed=event.receipt,
            )


def _refuse(code: ErrorCode, detail: str) -> NoReturn:
    raise RefusedError(Refusal(code=code, detail=detail))
