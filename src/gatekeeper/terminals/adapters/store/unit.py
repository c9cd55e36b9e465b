"""One open transaction over terminals, their jobs and their evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from gatekeeper.kernel.errors import IntegrityError
from gatekeeper.kernel.ids import TerminalId, job_id
from gatekeeper.kernel.session import may_move
from gatekeeper.platform import queue
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.postgres.failures import failure_values
from gatekeeper.platform.postgres.keys import bound_to_key, claim_key
from gatekeeper.platform.postgres.rows import every, one, only
from gatekeeper.platform.telemetry import traces
from gatekeeper.terminals.adapters.store import queries
from gatekeeper.terminals.adapters.store.rows import (
    KEYS_OF_TERMINALS,
    ended_values,
    stage_values,
    terminal_of,
    values_of,
)
from gatekeeper.terminals.ports import OverdueRecording

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from psycopg import AsyncConnection

    from gatekeeper.kernel.audit import AuditEvent
    from gatekeeper.kernel.errors import Failure
    from gatekeeper.kernel.ids import SessionId
    from gatekeeper.terminals.model import Ended, Share, Stage, Terminal
    from gatekeeper.terminals.ports import Move, Runner, RunnerClaim, TerminalClaim

LAUNCH: Final = "launch"
END: Final = "terminate"
LISTEN: Final = "listen"
CHANNEL: Final = "gatekeeper_terminal"
TRACE: Final = traces.HEADER
"""Where a job's payload says to which trace it belongs."""


class Unit:
    """The `TerminalUnit` port: one open transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.abandoned = False

    async def now(self) -> datetime:
        row = await only(self._connection, "SELECT clock_timestamp() AS now", {})
        return cast("datetime", row["now"])

    async def claim_key(
        self, requester: str, key: str, body_sha256: str, terminal: TerminalId
    ) -> tuple[str, TerminalId] | None:
        named = KEYS_OF_TERMINALS + key
        if await claim_key(self._connection, requester, named, body_sha256, terminal):
            return None
        return await bound_to_key(self._connection, requester, named, TerminalId)

    async def count_open(self, requester: str) -> int:
        await self._hold_off(f"terminals of {requester}")
        row = await only(
            self._connection,
            "SELECT count(*) AS open FROM gatekeeper.terminal WHERE requester = %(requester)s"
            " AND status IN ('pending', 'ready')",
            {"requester": requester},
        )
        return int(row["open"])

    async def count_running(self, runner: str) -> int:
        await self._hold_off(f"places of {runner}")
        row = await only(self._connection, queries.COUNT_RUNNING, {"runner": runner})
        return int(row["running"])

    async def count_waiting(self, runner: str) -> int:
        await self._hold_off(f"queue of {runner}")
        row = await only(self._connection, queries.COUNT_WAITING, {"runner": runner})
        return int(row["waiting"])

    async def queue_place(self, terminal: TerminalId) -> int | None:
        row = await one(self._connection, queries.QUEUE_PLACE, {"id": terminal})
        return None if row is None else int(row["place"])

    async def next_waiting(self, runner: str, most: int) -> Sequence[Terminal]:
        values = {"runner": runner, "most": most}
        rows = await every(self._connection, queries.NEXT_WAITING, values)
        return [terminal_of(row) for row in rows]

    async def add(self, terminal: Terminal) -> Terminal:
        added = terminal_of(await only(self._connection, queries.ADD, values_of(terminal)))
        await self._changed(added)
        return added

    async def lock(self, terminal: TerminalId) -> Terminal | None:
        row = await one(
            self._connection,
            "SELECT * FROM gatekeeper.terminal WHERE id = %(id)s FOR UPDATE",
            {"id": terminal},
        )
        return None if row is None else terminal_of(row)

    async def move(self, move: Move) -> Terminal:
        terminal = move.terminal
        if not may_move(terminal.status, move.to):
            msg = f"terminal {terminal.id} cannot go from {terminal.status} to {move.to}"
            raise IntegrityError(msg)
        values = {
            "id": terminal.id,
            "status": str(move.to),
            "expires_at": move.expires_at,
            "address": move.address,
            "sandbox": move.sandbox,
            **failure_values(move.error),
            **ended_values(move.ended or terminal.ended),
        }
        moved = terminal_of(await only(self._connection, queries.MOVE, values))
        await self._changed(moved)
        return moved

    async def stamp(self, terminal: TerminalId, stages: Mapping[Stage, datetime]) -> None:
        await self._connection.execute(
            "UPDATE gatekeeper.terminal SET stages = %(new)s || stages WHERE id = %(id)s",
            {"id": terminal, "new": stage_values(stages)},
        )

    async def bind(self, terminal: Terminal, session: SessionId) -> Terminal:
        row = await only(
            self._connection,
            "UPDATE gatekeeper.terminal SET session_id = %(session)s WHERE id = %(id)s RETURNING *",
            {"id": terminal.id, "session": session},
        )
        return terminal_of(row)

    async def note_error(self, terminal: Terminal, error: Failure) -> Terminal:
        row = await only(
            self._connection,
            "UPDATE gatekeeper.terminal SET error_code = %(code)s, error_message = %(message)s,"
            " error_retryable = %(retryable)s WHERE id = %(id)s RETURNING *",
            {"id": terminal.id, **failure_values(error)},
        )
        return terminal_of(row)

    async def note_ended(self, terminal: Terminal, ended: Ended) -> Terminal:
        values = {"id": terminal.id, **ended_values(ended)}
        return terminal_of(await only(self._connection, queries.NOTE_ENDED, values))

    async def note_taken(self, terminal: TerminalId, last: int) -> None:
        await self._connection.execute(
            "UPDATE gatekeeper.terminal SET events_taken = %(last)s WHERE id = %(id)s",
            {"id": terminal, "last": last},
        )

    async def overdue_recordings(
        self, terminals: Sequence[TerminalId], keep: timedelta
    ) -> Sequence[OverdueRecording]:
        values = {"ids": list(terminals), "keep": keep}
        return [
            OverdueRecording(
                terminal=terminal_of(row),
                segments=row["evident_segments"] or 0,
                head=row["evident_head"],
            )
            for row in await every(self._connection, queries.OVERDUE_RECORDINGS, values)
        ]

    async def note_deleted(self, terminals: Sequence[TerminalId]) -> Sequence[Terminal]:
        rows = await every(self._connection, queries.NOTE_DELETED, {"ids": list(terminals)})
        return [terminal_of(row) for row in rows]

    async def deleted_recordings(self, terminals: Sequence[TerminalId]) -> Collection[TerminalId]:
        rows = await every(
            self._connection,
            "SELECT id FROM gatekeeper.terminal"
            " WHERE id = ANY (%(ids)s) AND recording_deleted_at IS NOT NULL",
            {"ids": list(terminals)},
        )
        return {TerminalId(row["id"]) for row in rows}

    async def note_runner(self, runner: Runner) -> None:
        values = {
            "name": runner.name,
            "boot": runner.boot,
            "sandbox": runner.sandbox,
            "capacity": runner.capacity,
        }
        await self._connection.execute(queries.NOTE_RUNNER, values)

    async def listen_for(self, runner: str, absence: timedelta) -> timedelta:
        values = {"runner": runner, "absence": absence}
        row = await only(self._connection, queries.LISTEN_FOR, values)
        return cast("timedelta", row["silence"])

    async def forget_runner(self, runner: str) -> None:
        await self._connection.execute(queries.FORGET_RUNNER, {"runner": runner})

    async def add_share(self, share: Share, secret_sha256: str) -> None:
        await self._connection.execute(
            "INSERT INTO gatekeeper.terminal_share"
            " (id, terminal_id, secret_sha256, created_by, expires_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            (share.id, share.terminal, secret_sha256, share.created_by, share.expires_at),
        )

    async def record(self, *events: AuditEvent) -> None:
        await outbox.record(self._connection, *events)

    async def schedule_launch(self, terminal: Terminal, at: datetime | None = None) -> None:
        await queue.enqueue_or_move(self._connection, [_job(LAUNCH, terminal, at)])

    async def schedule_end(self, terminal: Terminal, at: datetime) -> None:
        await queue.enqueue_or_move(self._connection, [_job(END, terminal, at)])

    async def schedule_listening(self, runner: str) -> None:
        job = queue.NewJob(
            id=f"{LISTEN}:{runner}",
            lane=LISTEN,
            kind=LISTEN,
            payload={"runner": runner},
            target=runner,
        )
        await queue.enqueue_or_move(self._connection, [job])

    async def epoch(self) -> str:
        row = await one(self._connection, queries.EPOCH, {})
        if row is None:
            await self._connection.execute(queries.BEGIN_EPOCH)
            row = await only(self._connection, queries.EPOCH, {})
        return str(row["epoch"])

    async def settle(self, claim: TerminalClaim | RunnerClaim) -> bool:
        job = _claimed(claim)
        return job.id in await queue.complete(self._connection, [job])

    async def postpone(self, claim: TerminalClaim | RunnerClaim, at: datetime) -> None:
        await queue.postpone(self._connection, _claimed(claim), at)

    async def abandon(self) -> None:
        self.abandoned = True

    async def _hold_off(self, what: str) -> None:
        """Let nobody else past here before this transaction ends."""
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (what,)
        )

    async def _changed(self, terminal: Terminal) -> None:
        """Tell watchers and gateways, with the commit."""
        values = {
            "id": terminal.id,
            "requester": terminal.requester,
            "profile": terminal.profile,
            "status": terminal.status,
            "channel": CHANNEL,
        }
        await self._connection.execute(queries.CHANGED, values)


def _job(kind: str, terminal: Terminal, due_at: datetime | None) -> queue.NewJob:
    running = traces.traceparent()
    trace = {} if running is None else {TRACE: running}
    return queue.NewJob(
        id=job_id(kind, terminal.id),
        lane=kind,
        kind=kind,
        payload={"terminalId": terminal.id, **trace},
        target=terminal.runner,
        due_at=due_at,
    )


def _claimed(claim: TerminalClaim | RunnerClaim) -> queue.ClaimedJob:
    return cast("Claim", claim).job


class Claim:
    """A claimed job of the queue, in this plane's words."""

    def __init__(self, job: queue.ClaimedJob) -> None:
        self.job = job

    @property
    def terminal(self) -> TerminalId:
        return TerminalId(str(self.job.payload["terminalId"]))

    @property
    def runner(self) -> str:
        return str(self.job.payload["runner"])
