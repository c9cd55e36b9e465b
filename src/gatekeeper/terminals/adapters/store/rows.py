"""Between rows of the store and this plane's values: the one place that knows the columns."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from gatekeeper.kernel.ids import SessionId, TerminalId
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.postgres.failures import failure_of
from gatekeeper.platform.postgres.principals import principal_of, principal_values
from gatekeeper.terminals.model import (
    Bundle,
    DatabaseWanted,
    Ended,
    Ending,
    Share,
    Size,
    Stage,
    Terminal,
    TerminalChange,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatekeeper.platform.postgres.rows import Row

KEYS_OF_TERMINALS: Final = "terminals "
"""Before the idempotency keys of terminals: one that was used for a session is another. With a
blank, which no key of a caller has."""


def values_of(terminal: Terminal) -> dict[str, object]:
    """Return what is stored of a new terminal."""
    return {
        "id": terminal.id,
        "status": terminal.status,
        "requester": terminal.requester,
        "requester_email": terminal.requester_email,
        "principal": principal_values(terminal.principal),
        "runner": terminal.runner,
        "instance": terminal.instance,
        "profile": terminal.profile,
        "command": Jsonb(list(terminal.command)),
        "shell": terminal.shell,
        "prompt": terminal.prompt,
        "bundle": _bundle_values(terminal.bundle),
        "database": _database_values(terminal.database),
        "columns": terminal.size.columns,
        "rows": terminal.size.rows,
        "reason": terminal.reason,
        "grant": terminal.grant,
        "ttl": terminal.ttl,
        "max_ttl": terminal.max_ttl,
        "correlation_id": terminal.correlation_id,
        "created_at": terminal.created_at,
        "stages": stage_values(terminal.stages),
    }


def terminal_of(row: Row) -> Terminal:
    return Terminal(
        id=TerminalId(row["id"]),
        status=SessionStatus(row["status"]),
        requester=row["requester"],
        requester_email=row["requester_email"],
        principal=principal_of(row["principal"]),
        runner=row["runner"],
        instance=row["instance"],
        profile=row["profile"],
        command=tuple(row["command"]),
        shell=row["shell"],
        prompt=row["prompt"],
        bundle=None if row["bundle"] is None else _bundle(row["bundle"]),
        database=None if row["database"] is None else DatabaseWanted(**row["database"]),
        database_session=None if row["session_id"] is None else SessionId(row["session_id"]),
        size=Size(columns=row["columns"], rows=row["rows"]),
        reason=row["reason"],
        grant=row["grant_name"],
        ttl=row["ttl"],
        max_ttl=row["max_ttl"],
        correlation_id=row["correlation_id"],
        created_at=row["created_at"],
        ready_at=row["ready_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        cleaned_at=row["cleaned_at"],
        stages={Stage(name): datetime.fromisoformat(at) for name, at in row["stages"].items()},
        ended=_ended(row),
        error=failure_of(row),
        sandbox=row["sandbox"],
        events_taken=row["events_taken"],
        recording_deleted_at=row["recording_deleted_at"],
    )


def stage_values(stages: Mapping[Stage, datetime]) -> Jsonb:
    return Jsonb({stage.value: at.isoformat() for stage, at in stages.items()})


def ended_values(ended: Ended | None) -> dict[str, object]:
    return {
        "ending": None if ended is None else ended.ending,
        "exit_code": None if ended is None else ended.exit_code,
        "exit_signal": None if ended is None else ended.signal,
        "last_screen": None if ended is None else _storable(ended.last_screen),
        "recording_head": None if ended is None else ended.recording_head,
        "recording_bytes": 0 if ended is None else ended.recording_bytes,
        "output_bytes": 0 if ended is None else ended.output_bytes,
        "ended_receipt": None if ended is None else ended.signed,
    }


def _storable(text: str | None) -> str | None:
    """Drop what PostgreSQL has no place for in a text; a command may have written it."""
    return None if text is None else text.replace("\0", "")


def share_of(row: Row) -> Share:
    return Share(
        id=row["id"],
        terminal=TerminalId(row["terminal_id"]),
        created_by=row["created_by"],
        expires_at=row["expires_at"],
    )


def change_of(row: Row) -> TerminalChange:
    return TerminalChange(
        cursor=(int(row["xid"]), row["seq"]),
        terminal=TerminalId(row["terminal_id"]),
        requester=row["requester"],
        profile=row["profile"],
        status=SessionStatus(row["status"]),
        at=row["at"],
    )


def _bundle_values(bundle: Bundle | None) -> Jsonb | None:
    if bundle is None:
        return None
    return Jsonb({"url": bundle.url, "sha256": bundle.sha256, "install": list(bundle.install)})


def _bundle(values: Mapping[str, Any]) -> Bundle:
    return Bundle(url=values["url"], sha256=values["sha256"], install=tuple(values["install"]))


def _database_values(wanted: DatabaseWanted | None) -> Jsonb | None:
    return None if wanted is None else Jsonb({"target": wanted.target, "role": wanted.role})


def _ended(row: Row) -> Ended | None:
    if row["ending"] is None:
        return None
    return Ended(
        ending=Ending(row["ending"]),
        exit_code=row["exit_code"],
        signal=row["exit_signal"],
        last_screen=row["last_screen"],
        recording_head=row["recording_head"],
        recording_bytes=row["recording_bytes"],
        output_bytes=row["output_bytes"],
        signed=row["ended_receipt"],
    )
