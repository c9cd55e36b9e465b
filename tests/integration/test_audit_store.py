"""The sequencer and the tables of evidence, on a real PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from gatekeeper.client.evidence import Report, Trust, verify_lines
from gatekeeper.kernel.audit import Actor, AuditEvent, AuditKind
from gatekeeper.kernel.errors import Refusal
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.audit.reader import AuditReader
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.pool import Pool


@dataclass
class Evidence:
    dsn: Secret
    owner: Secret
    pool: Pool
    key: SigningKey
    reader: AuditReader

    def sequencer(self) -> Sequencer:
        return Sequencer(pool=self.pool, dsn=self.dsn, key=self.key, clock=SystemClock())

    async def tell(self, number: int) -> None:
        made = AuditEvent(
            kind=AuditKind.SESSION_CREATED, at=datetime(2026, 1, 1, tzinfo=UTC),
            actor=Actor(kind="human", key="i#d"), plane="databases", correlation_id=f"cor_{number}",
            session=f"ses_{number}",
        )  # fmt: skip
        async with self.pool.connection() as connection, connection.transaction():
            await outbox.record(connection, made)

    async def verify(self) -> Report:
        text = b"".join([part async for part in self.reader.export()])
        return verify_lines(text.splitlines(), Trust(public_key=self.key.public_jwk()))

    async def execute_as_owner(self, query: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.owner.reveal()) as connection:
            await connection.execute(query.encode())


@pytest.fixture
async def evidence(store_dsn: str, store_owner_dsn: str, tmp_path: Path) -> AsyncIterator[Evidence]:
    dsn = Secret(store_dsn)
    pool = Pool(dsn, name="test", max_size=20)
    await pool.open()
    key = SigningKey.load_or_create(tmp_path / "key")
    yield Evidence(
        dsn, Secret(store_owner_dsn), pool, key, AuditReader(pool, public_key=key.public_jwk())
    )
    await pool.close()


async def test_many_writers_and_sequencers_make_one_chain_and_lose_nothing(
    evidence: Evidence,
) -> None:
    running = [asyncio.create_task(evidence.sequencer().run()) for _ in range(3)]
    try:
        await asyncio.gather(*(evidence.tell(n) for n in range(200)))
        async with asyncio.timeout(15):
            while (await evidence.verify()).events < 200:
                await asyncio.sleep(0.05)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    report = await evidence.verify()
    assert report.broken is None
    assert report.events == 200
    told = {e.canonical for e in await evidence.reader.events(after=0, limit=1000)}
    assert {json.loads(c)["session"] for c in told} == {f"ses_{n}" for n in range(200)}


async def test_an_event_is_undone_with_its_transaction(evidence: Evidence) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with evidence.pool.connection() as connection, connection.transaction():
            await connection.execute("INSERT INTO gatekeeper.audit_outbox (event) VALUES ('{}')")
            raise RuntimeError("changed my mind")  # noqa: EM101, TRY003  # the test's own

    assert await evidence.sequencer().sequence() == 0


@pytest.mark.parametrize("table", ["audit_event", "audit_checkpoint"])
@pytest.mark.parametrize(
    "change",
    ["UPDATE gatekeeper.{} SET {} = {}", "DELETE FROM gatekeeper.{}", "TRUNCATE gatekeeper.{}"],
)
async def test_no_change_of_evidence_is_taken_even_from_its_owner(
    evidence: Evidence, table: str, change: str
) -> None:
    await evidence.tell(1)
    await evidence.sequencer().sequence()
    column = "seq" if table == "audit_event" else "size"

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="never changed"):
        await evidence.execute_as_owner(change.format(table, column, column))


async def test_a_change_behind_the_triggers_is_found(evidence: Evidence) -> None:
    for number in range(5):
        await evidence.tell(number)
    await evidence.sequencer().sequence()
    await evidence.execute_as_owner(
        "ALTER TABLE gatekeeper.audit_event DISABLE TRIGGER ALL;"
        "UPDATE gatekeeper.audit_event SET canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'ses_2', 'ses_9'), 'UTF8') WHERE seq = 3"
    )

    report = await evidence.verify()

    assert report.broken is not None
    assert report.broken.seq == 3


async def test_a_proof_names_an_event_and_the_checkpoint_over_it(evidence: Evidence) -> None:
    for number in range(5):
        await evidence.tell(number)
    await evidence.sequencer().sequence()

    proof = await evidence.reader.proof(2)

    assert not isinstance(proof, Refusal)
    assert proof.event.seq == 2
    assert [event.seq for event in proof.links] == [3, 4, 5]
    assert proof.checkpoint.head == proof.links[-1].hash
    assert isinstance(await evidence.reader.proof(6), Refusal)
