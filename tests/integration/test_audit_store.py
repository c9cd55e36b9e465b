"""The sequencer and the tables of evidence, on a real PostgreSQL."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from gatekeeper.client.evidence import Report, Trust, verify_lines
from gatekeeper.kernel.audit import GENESIS, Actor, AuditEvent, AuditKind, link
from gatekeeper.kernel.errors import InputError, Refusal, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.audit import outbox
from gatekeeper.platform.audit.reader import AuditReader
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres import roles
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.postgres.pool import Pool


def an_event(number: int) -> AuditEvent:
    return AuditEvent(
        kind=AuditKind.SESSION_CREATED, at=datetime(2026, 1, 1, tzinfo=UTC),
        actor=Actor(kind="human", key="i#d"), plane="databases", correlation_id=f"cor_{number}",
        session=f"ses_{number}",
    )  # fmt: skip


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
        async with self.pool.connection() as connection, connection.transaction():
            await outbox.record(connection, an_event(number))

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
        async with asyncio.timeout(60):
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


async def test_no_change_of_evidence_is_taken_even_from_its_owner(evidence: Evidence) -> None:
    await evidence.tell(1)
    await evidence.sequencer().sequence()

    for table in ("audit_event", "audit_checkpoint"):
        for change in ("UPDATE {} SET at = at", "DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="never changed"):
                await evidence.execute_as_owner(change.format(f"gatekeeper.{table}"))


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


AGAINST_EACH_TABLE = (
    "UPDATE gatekeeper.{0} SET at = at",
    "DELETE FROM gatekeeper.{0}",
    "TRUNCATE gatekeeper.{0}",
    "DROP TABLE gatekeeper.{0}",
    "ALTER TABLE gatekeeper.{0} DISABLE TRIGGER ALL",
    "ALTER TABLE gatekeeper.{0} OWNER TO CURRENT_USER",
    "DROP TRIGGER append_only ON gatekeeper.{0}",
    "CREATE TRIGGER mine BEFORE INSERT ON gatekeeper.{0} EXECUTE FUNCTION refuse_change()",
    "CREATE RULE mine AS ON INSERT TO gatekeeper.{0} DO INSTEAD NOTHING",
    "GRANT UPDATE ON gatekeeper.{0} TO CURRENT_USER; UPDATE gatekeeper.{0} SET at = at",
    "MERGE INTO gatekeeper.{0} USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "SELECT * FROM gatekeeper.{0} FOR UPDATE",
)
AGAINST_THE_REST = (
    "SET ROLE postgres",
    "SET session_replication_role = replica",
    "CREATE OR REPLACE FUNCTION gatekeeper.refuse_change() RETURNS trigger LANGUAGE plpgsql AS ''",
    "DROP FUNCTION gatekeeper.refuse_change() CASCADE",
    "DROP SCHEMA gatekeeper CASCADE",
    "CREATE TABLE gatekeeper.mine (n int)",
    "ALTER SCHEMA gatekeeper RENAME TO other",
    "UPDATE gatekeeper.audit_outbox SET event = '{}'",
    "TRUNCATE gatekeeper.audit_outbox",
    "INSERT INTO gatekeeper.migration (name, sha256) VALUES ('x', 'x')",
    "DELETE FROM gatekeeper.migration",
    "ALTER ROLE gatekeeper_app SUPERUSER",
)


async def test_a_control_planes_login_owns_nothing_and_can_only_add_to_the_evidence(
    evidence: Evidence,
) -> None:
    attacks = [
        attack.format(table)
        for table in ("audit_event", "audit_checkpoint")
        for attack in AGAINST_EACH_TABLE
    ]
    succeeded = []
    async with evidence.pool.connection() as connection:
        for attack in (*attacks, *AGAINST_THE_REST):
            try:
                await connection.execute(attack.encode())
                succeeded.append(attack)
            except psycopg.errors.InsufficientPrivilege:
                continue

    assert succeeded == []


async def test_what_a_control_planes_login_may_do_with_each_table(evidence: Evidence) -> None:
    """A new table gets the four usual privileges; whoever wants another answer says so here."""
    query = """
        SELECT relname, string_agg(letter, '' ORDER BY letter) FROM (
            SELECT c.relname, left(p, 1) AS letter FROM pg_class c,
                unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES']) p
            WHERE c.relnamespace = 'gatekeeper'::regnamespace AND c.relkind IN ('r', 'p')
              AND has_table_privilege(c.oid, p)) granted
        GROUP BY relname
    """
    async with evidence.pool.connection() as connection:
        may = dict(await (await connection.execute(query.encode())).fetchall())
        protected = await roles.evidence_is_protected(connection)

    special = {
        "audit_event": "IS", "audit_checkpoint": "IS", "audit_outbox": "DIS", "migration": "S",
    }  # fmt: skip
    assert may == dict.fromkeys(may, "DISU") | special
    assert protected


async def test_a_login_that_owns_the_tables_is_told_to_be_no_protection(
    evidence: Evidence,
) -> None:
    async with await psycopg.AsyncConnection.connect(evidence.owner.reveal()) as connection:
        assert not await roles.evidence_is_protected(connection)


async def test_a_login_is_let_in_twice_and_never_the_owner_itself(
    evidence: Evidence,
) -> None:
    for password in ("first", "second"):
        login = Secret(make_conninfo(evidence.owner.reveal(), user="gk_two", password=password))
        await roles.allow_login(evidence.owner, login)
    async with await psycopg.AsyncConnection.connect(login.reveal()) as connection:
        assert await roles.evidence_is_protected(connection)
    with pytest.raises(InputError, match="a login of its own"):
        await roles.allow_login(evidence.owner, evidence.owner)
    with pytest.raises(InputError, match="ASCII"):
        await roles.allow_login(evidence.owner, Secret("user=x password=ü"))
    with pytest.raises(UnavailableError):
        await roles.allow_login(Secret("host=127.0.0.1 port=1 user=y"), login)


@pytest.mark.usefixtures("store_databases")
async def test_an_owner_that_may_not_make_roles_uses_what_an_administrator_made(
    server_18: EmbeddedServer,
) -> None:
    with psycopg.connect(server_18.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        admin.execute("CREATE DATABASE plain_store OWNER plain")
        admin.execute("CREATE ROLE gk_made LOGIN PASSWORD 'made' IN ROLE gatekeeper_app")
    owner, made, unknown = (
        Secret(make_conninfo(server_18.dsn("plain_store"), user=name, password=name))
        for name in ("plain", "gk_made", "gk_unknown")
    )
    made = Secret(make_conninfo(made.reveal(), password="made"))

    assert "0005_pre_application_role" in await migrate(owner)
    await roles.allow_login(owner, made)
    with pytest.raises(InputError, match="CREATE ROLE gk_unknown LOGIN"):
        await roles.allow_login(owner, unknown)

    async with await psycopg.AsyncConnection.connect(made.reveal()) as connection:
        assert await roles.evidence_is_protected(connection)
    with psycopg.connect(server_18.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE plain_store WITH (FORCE)")
        admin.execute("DROP ROLE plain, gk_made")


ATTACKS = {
    "flip": (
        ("UPDATE gatekeeper.audit_event SET canonical = set_byte(canonical, 30,"
        " get_byte(canonical, 30) # 1) WHERE seq = 7"),
        7, "was changed",
    ),
    "cut": ("DELETE FROM gatekeeper.audit_event WHERE seq = 7", 7, "event 8 stands here"),
    "insert": (
        ("UPDATE gatekeeper.audit_event SET seq = seq + 100 WHERE seq > 6;"
        "INSERT INTO gatekeeper.audit_event SELECT 7, 'x', hash || 'x', canonical, kind,"
        " session_id, at FROM gatekeeper.audit_event WHERE seq = 5;"
        "UPDATE gatekeeper.audit_event SET seq = seq - 99 WHERE seq > 100"),
        7, "",
    ),
    "reorder": (
        ("UPDATE gatekeeper.audit_event SET seq = 100 WHERE seq = 3;"
        "UPDATE gatekeeper.audit_event SET seq = 3 WHERE seq = 7;"
        "UPDATE gatekeeper.audit_event SET seq = 7 WHERE seq = 100"),
        3, "event 7 stands here",
    ),
    "truncate the tail": (
        "DELETE FROM gatekeeper.audit_event WHERE seq > 8", 9, "from here on they are gone",
    ),
    "truncate all": ("TRUNCATE gatekeeper.audit_event", 1, "from here on they are gone"),
    "take the newest checkpoints away": (
        "DELETE FROM gatekeeper.audit_checkpoint WHERE size > 5", None, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_by_whoever_owns_the_database_is_found_online(
    evidence: Evidence, attack: str
) -> None:
    for number in range(10):
        await evidence.tell(number)
        if number % 5 == 4:
            await evidence.sequencer().sequence()
    statements, seq, what = ATTACKS[attack]

    await evidence.execute_as_owner(
        "SET session_replication_role = replica;"  # the triggers do not fire
        + statements
    )
    report = await evidence.verify()

    if seq is None:  # the chain of before is whole; what was kept elsewhere tells of the rest
        assert (report.broken, report.events) == (None, 5)
        return
    assert report.broken is not None
    assert report.broken.seq == seq
    assert what in report.broken.what


async def test_a_whole_chain_rewritten_in_the_database_is_found(evidence: Evidence) -> None:
    for number in range(10):
        await evidence.tell(number)
        await evidence.sequencer().sequence()
    rewritten, previous = [], GENESIS
    for seq in range(1, 11):
        made = link(an_event(seq + 100).fields(), seq=seq, previous=previous)
        rewritten.append((made.hash, previous, made.canonical, seq))
        previous = made.hash
    async with await psycopg.AsyncConnection.connect(evidence.owner.reveal()) as connection:
        await connection.execute("SET session_replication_role = replica")
        await connection.cursor().executemany(
            "UPDATE gatekeeper.audit_event SET hash = %s, prev_hash = %s, canonical = %s"
            " WHERE seq = %s",
            rewritten,
        )

    report = await evidence.verify()

    assert report.broken is not None
    assert report.broken.seq == 1
    assert "was rewritten" in report.broken.what


async def test_sequencers_that_are_killed_lose_nothing_and_tell_nothing_twice(
    evidence: Evidence, store_dsn: str, tmp_path: Path
) -> None:
    program = Path(__file__).with_name("sequencer_program.py")
    count = 400

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, program, store_dsn, tmp_path / "key"
        )

    running = [await start() for _ in range(2)]
    try:
        for number in range(count):
            await evidence.tell(number)
            if number % 100 == 60:  # in the middle of whatever it does
                running[0].kill()
                await running[0].wait()
                running = [*running[1:], await start()]
        async with asyncio.timeout(60):
            while (await evidence.verify()).events < count:
                await asyncio.sleep(0.1)
    finally:
        for process in running:
            process.kill()
            await process.wait()

    report = await evidence.verify()
    assert (report.broken, report.events) == (None, count)
    told = await evidence.reader.events(after=0, limit=1000)
    assert {json.loads(e.canonical)["session"] for e in told} == {f"ses_{n}" for n in range(count)}


async def test_how_far_the_sequencer_is_behind_is_known(evidence: Evidence) -> None:
    async def backlog() -> outbox.Backlog:
        async with evidence.pool.connection() as connection:
            return await outbox.backlog(connection)

    empty = await backlog()
    await evidence.tell(1)
    waiting = await backlog()
    await evidence.sequencer().sequence()
    done = await backlog()

    assert (empty.signed, empty.waiting, empty.oldest) == (0, 0, 0)
    assert (waiting.signed, waiting.waiting) == (0, 1)
    assert waiting.oldest > 0
    assert (done.signed, done.waiting, done.oldest) == (1, 0, 0)
