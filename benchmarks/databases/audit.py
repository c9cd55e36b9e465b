"""Evidence: events per second through outbox and sequencer, and per second verified.

Appended: writers record events in transactions of their own on an embedded server (fsync on),
one sequencer links and signs them. Verified: an export in memory, one process, no server;
once without receipts, once with the share that database sessions have (2 of 4 events).
The second column counts this process's CPU time alone: what one core of its own would do.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.report import Table
from gatekeeper.bootstrap.store import prepare_store
from gatekeeper.client.evidence import Trust, bounded_lines, verify_lines
from gatekeeper.kernel.audit import (
    CHAIN,
    GENESIS,
    Actor,
    AuditEvent,
    AuditKind,
    checkpoint_message,
    link,
    timestamp,
)
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.audit.reader import AuditReader
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import seal
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.wire.audit import (
    EXPORT_FORMAT,
    CheckpointView,
    ExportHeader,
    exported_event,
)
from gatekeeper.wire.jobs import CreateSessionResult

if TYPE_CHECKING:
    from collections.abc import Iterator

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY, AGENT = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(2))
SESSION = "ses_" + "a" * 20
CHECKPOINT_EVENTS = 100


WRITERS = 16


async def measure(events: int) -> Table:
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedServer(Path(folder) / "store", find_binaries()) as server:
            dsn = await prepare_store(Secret(server.dsn()))
            pool = Pool(dsn, name="benchmark", max_size=WRITERS + 2)
            await pool.open()
            rows += await append(pool, dsn, events)
            rows.append(await link_backlog(pool, dsn, events))
            rows.append(await export(pool))
            await pool.close()
    rows += [verify(events * 5, receipts=receipts) for receipts in (False, True)]
    return Table(
        title="Evidence",
        columns=("events", "per second", "per CPU second of the process"),
        rows=rows,
    )


async def append(pool: Pool, dsn: Secret, events: int) -> list[list[str]]:
    """Measure from the first record to the last signature."""
    sequencer = asyncio.create_task(make_sequencer(pool, dsn).run())
    before, clock = await signed(pool), Clock()
    left = iter(range(events))

    async def writer() -> None:
        for _ in left:
            async with pool.connection() as connection, connection.transaction():
                await outbox.record(connection, an_event())

    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    recorded = row(f"recorded, one a transaction, {WRITERS} writers", events, clock)
    while await signed(pool) < before + events:  # noqa: ASYNC110  # it is in the database
        await asyncio.sleep(0.01)
    linked = row("of these linked and signed", events, clock)
    sequencer.cancel()
    await asyncio.gather(sequencer, return_exceptions=True)
    return [recorded, linked]


async def link_backlog(pool: Pool, dsn: Secret, events: int) -> list[str]:
    """Measure the sequencer alone, on what piled up while there was none."""
    async with pool.connection() as connection:
        for _ in range(events // 1_000):
            await outbox.record(connection, *(an_event() for _ in range(1_000)))
    sequencer = make_sequencer(pool, dsn)
    clock, count = Clock(), 0
    while batch := await sequencer.sequence():
        count += batch
    return row("linked and signed, by one sequencer, a backlog", count, clock)


async def export(pool: Pool) -> list[str]:
    clock, count = Clock(), 0
    async for part in AuditReader(pool, public_key=KEY.public_jwk()).export():
        count += part.count(b'{"type":"event"')
    return row("exported from the store", count, clock)


def verify(events: int, *, receipts: bool) -> list[str]:
    file = io.BytesIO(b"".join(lines(events, receipts=receipts)))
    clock = Clock()
    report = verify_lines(bounded_lines(file), Trust(public_key=KEY.public_jwk()))
    if report.broken is not None:
        raise SystemExit(report.broken)
    kind = f"{report.receipts} receipts among them" if receipts else "no receipts"
    return row(f"verified offline, one process, {kind}", report.events, clock)


def lines(count: int, *, receipts: bool) -> Iterator[bytes]:
    """Make an export: the shape and size of real events."""
    header = ExportHeader(format=EXPORT_FORMAT, chain=CHAIN, public_key=KEY.public_jwk())
    yield header.model_dump_json(by_alias=True).encode() + b"\n"
    plain, speaking = an_event().fields(), a_receipt().fields()
    previous = GENESIS
    for seq in range(1, count + 1):
        fields = the_start().fields() if seq == 1 else plain
        made = link(speaking if receipts and seq % 2 == 0 else fields, seq=seq, previous=previous)
        previous = made.hash
        yield exported_event(seq, made.hash, made.canonical)
        if seq % CHECKPOINT_EVENTS == 0 or seq == count:
            yield a_checkpoint(seq, made.hash)


def a_checkpoint(size: int, head: str) -> bytes:
    message = checkpoint_message(chain=CHAIN, size=size, head=head, at="now", key_id=KEY.key_id)
    view = CheckpointView(
        chain=CHAIN, size=size, head=head, at="now", key_id=KEY.key_id,
        signature=KEY.sign(message).hex(),
    )  # fmt: skip
    return view.model_dump_json(by_alias=True).encode() + b"\n"


def an_event(kind: AuditKind = AuditKind.SESSION_CREATED, **data: str) -> AuditEvent:
    usual: dict[str, Any] = {
        "role": "app_read", "status": "pending", "grant": "engineers-read", "ttlSeconds": 900,
        "reason": "ticket 42: why is the order late", "credential": "scram-sha-256",
    }  # fmt: skip
    return AuditEvent(
        kind=kind, at=AT, actor=Actor(kind="human", key="https://issuer.example/#dana"),
        plane="databases", correlation_id="cor_abcdefghijklmnopqrst", session=SESSION,
        target="pg-local", data=data or usual,
    )  # fmt: skip


def the_start() -> AuditEvent:
    public = AGENT.public_jwk().split('"x": "')[1].split('"')[0]
    return replace(an_event(AuditKind.CONTROL_PLANE_STARTED), data={"agents": {"local": public}})


def a_receipt() -> AuditEvent:
    result = CreateSessionResult(
        job_id=f"create:{SESSION}", correlation_id="cor_abcdefghijklmnopqrst", status="ready",
        expires_at=AT + timedelta(minutes=15), target_now=AT,
    )  # fmt: skip
    receipt = seal(
        result.model_dump_json(by_alias=True).encode(), key=AGENT.private, sender="local",
        audience="control-plane", purpose="result", message_id="0" * 32, now=AT,
        in_reply_to="1" * 32,
    )  # fmt: skip
    return an_event(
        AuditKind.SESSION_READY, role="app_read", status="ready", username="gk_" + "a" * 20,
        expiresAt=timestamp(AT + timedelta(minutes=15)), receipt=receipt,
    )  # fmt: skip


def make_sequencer(pool: Pool, dsn: Secret) -> Sequencer:
    return Sequencer(pool=pool, dsn=dsn, key=KEY, clock=SystemClock())


async def signed(pool: Pool) -> int:
    async with pool.connection() as connection:
        return (await outbox.backlog(connection)).signed


class Clock:
    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()


def row(what: str, count: int, since: Clock) -> list[str]:
    wall, cpu = time.perf_counter() - since.wall, time.process_time() - since.cpu
    return [what, f"{count / wall:,.0f}", f"{count / cpu:,.0f}"]
