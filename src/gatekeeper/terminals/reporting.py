"""What a runner tells of its terminals, applied once each.

Events are numbered and told again until they were taken, so a report that is lost, or comes
twice, changes nothing. What a runner does not name any more is asked for before it is given
up: the report may be older than the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatekeeper.kernel.audit import Actor, AuditKind
from gatekeeper.kernel.session import ENDING, OPEN, SessionStatus
from gatekeeper.terminals.evidence import attested_event
from gatekeeper.terminals.losing import Losing
from gatekeeper.terminals.model import Ended, Mode, Stage
from gatekeeper.terminals.moving import tell_ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from gatekeeper.kernel.audit import AuditEvent, Json
    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.terminals.model import Terminal
    from gatekeeper.terminals.ports import Launcher, Runner, TerminalStore, TerminalUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A stage was reached, so long ago."""

    stage: Stage
    ago: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    signed: str
    """The runner's receipt, for the evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached(Attested):
    subject: str
    mode: Mode
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePassed(Attested):
    holder: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Attested):
    number: int
    head: str
    bytes: int


Told = Reached | Attached | LeasePassed | Recorded | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What is told of one terminal. `first` is the number of its first event, from 1."""

    terminal: TerminalId
    instance: str
    live: bool
    first: int
    events: tuple[Told, ...]

    @property
    def last(self) -> int:
        return self.first + len(self.events) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    runner: Runner
    terminals: tuple[Reported, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """By instance the number of the last event that was taken; and which are to end."""

    taken: Mapping[str, int] = field(default_factory=dict)
    end: tuple[str, ...] = ()


class Reporting:
    """Takes reports."""

    def __init__(self, *, store: TerminalStore, launchers: Mapping[str, Launcher]) -> None:
        self._store = store
        self._losing = Losing(store=store, launchers=launchers)

    async def take(self, report: Report) -> Answer:
        """Apply a report of a runner. Not checked: who sent it."""
        async with self._store.transaction() as unit:
            await unit.note_runner(report.runner)
        held = {t.instance: t for t in await self._store.on_runner(report.runner.name)}
        taken: dict[str, int] = {}
        end: list[str] = []
        for told in report.terminals:
            known = held.get(told.instance)
            if told.events:
                known = await self._apply(report, told)
                taken[told.instance] = told.last
            if told.live and (known is None or known.status not in OPEN):
                end.append(told.instance)
        named = {told.instance for told in report.terminals if told.live or told.events}
        missing = [t for name, t in held.items() if name not in named]
        await self._losing.give_up([t for t in missing if t.status is SessionStatus.READY])
        return Answer(taken=taken, end=tuple(end))

    async def _apply(self, report: Report, told: Reported) -> Terminal | None:
        """Apply what is new, and return the terminal; None when the runner holds none like it."""
        async with self._store.transaction() as unit:
            terminal = await unit.lock(told.terminal)
            if terminal is None or not _holds(report, told, terminal):
                return None
            new = told.events[max(0, terminal.events_taken + 1 - told.first) :]
            if new:
                terminal = await self._tell(unit, terminal, new, report)
                await unit.note_taken(terminal.id, told.last)
            return terminal

    async def _tell(
        self, unit: TerminalUnit, terminal: Terminal, new: Sequence[Told], report: Report
    ) -> Terminal:
        now = await unit.now()
        actor = Actor(kind="runner", key=report.runner.name)
        for event in new:
            match event:
                case Reached():
                    at = max(now - event.ago, terminal.created_at)
                    await unit.stamp(terminal.id, {event.stage: at})
                case Ended():
                    terminal = await _ended(unit, terminal, event)
                case _:
                    await unit.record(_evidence(terminal, event, now, actor))
        return terminal


def _holds(report: Report, told: Reported, terminal: Terminal) -> bool:
    """A runner is not heard on what is another's, or was another launch."""
    return terminal.runner == report.runner.name and terminal.instance == told.instance


async def _ended(unit: TerminalUnit, terminal: Terminal, ended: Ended) -> Terminal:
    """Take how a terminal ended.

    One that is pending is ended by its launch, which is just under way; of one that is over,
    what outlives it is noted.
    """
    if terminal.status is SessionStatus.READY:
        return await tell_ended(unit, terminal, ended)
    if terminal.status is SessionStatus.PENDING:
        return await unit.note_ended(terminal, ended)
    if terminal.status in ENDING and terminal.ended is not None:
        return await unit.note_ended(terminal, terminal.ended.with_more(ended))
    return terminal


def _evidence(
    terminal: Terminal,
    event: Attached | LeasePassed | Recorded,
    at: datetime,
    actor: Actor,
) -> AuditEvent:
    data: dict[str, Json]
    match event:
        case Attached():
            kind = AuditKind.TERMINAL_ATTACHED
            data = {"subject": event.subject, "mode": event.mode.value, "protocol": event.protocol}
        case LeasePassed():
            kind = AuditKind.TERMINAL_LEASE_PASSED
            data = {"holder": event.holder}
        case Recorded():
            kind = AuditKind.TERMINAL_RECORDED
            data = {"segment": event.number, "head": event.head, "bytes": event.bytes}
    return attested_event(kind, terminal, at=at, actor=actor, receipt=event.signed, told=data)
