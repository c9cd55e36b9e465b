"""More than usual at once: a backlog of endings, a holder who logs in as fast as he can."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from acceptance.faults.stacks import (
    PATIENCE,
    PreparedTarget,
    eventually,
    fresh_store,
    rows,
    running,
)
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.model import CreateUser, ObjectPolicy, UserRevoked
from gatekeeper.kernel import ids, scram
from gatekeeper.platform.postgres.embedded import EmbeddedServer

BACKLOG = 10_000
ISSUES = 8
LOGGING_IN = 8

# Copies of one real session, revoked, and the jobs that are to end them, due now.
FILL = f"""
WITH ended AS (
    INSERT INTO gatekeeper.session
    SELECT (jsonb_populate_record(s, jsonb_build_object(
        'id', 'ses_' || name, 'username', 'gk_' || name, 'status', 'revoked',
        'ended_at', clock_timestamp(), 'verifier', NULL))).*
    FROM gatekeeper.session s, (
        SELECT lpad(translate(n::text, '0189', 'abcd'), 20, 'z') AS name
        FROM generate_series(1, {BACKLOG}) AS n) AS names
    RETURNING id, target)
INSERT INTO gatekeeper.job (id, lane, kind, target, payload, due_at)
SELECT 'end:' || id, 'end', 'end', target, jsonb_build_object('sessionId', id), clock_timestamp()
FROM ended
"""
LEFT = "SELECT count(*) FROM gatekeeper.session WHERE status = 'revoked'"


@pytest.fixture
def store(server_18: EmbeddedServer, store_databases: psycopg.Connection) -> Iterator[str]:
    with fresh_store(store_databases, server_18) as dsn:
        yield dsn


@pytest.fixture
async def provider(target: PreparedTarget) -> AsyncIterator[PostgreSQLProvider]:
    made = PostgreSQLProvider(target.agent_dsn)
    yield made
    await made.close()


async def test_ten_thousand_endings_that_are_due_hold_up_no_issue(
    target: PreparedTarget, store: str, tmp_path: Path
) -> None:
    async with running(tmp_path, store, target) as stack:
        await stack.create()
        await rows(store, FILL)
        await rows(store, "NOTIFY gatekeeper_job, 'end'")

        async def begun() -> bool:
            return bool((await rows(store, LEFT))[0][0] < BACKLOG)

        await eventually(begun, "the backlog is worked on")
        logins = await asyncio.gather(*(stack.create() for _ in range(ISSUES)))
        ((left,),) = await rows(store, LEFT)
        assert left > 0
        for login in logins:
            assert await rows(login.dsn, "SELECT 1") == [(1,)]

        async def drained() -> bool:
            return await rows(store, LEFT) == [(0,)]

        await eventually(drained, "the backlog is drained", patience=5 * PATIENCE)
        cleaned = await rows(
            store,
            "SELECT count(*), count(DISTINCT event->>'session') FROM ("
            " SELECT event FROM gatekeeper.audit_outbox UNION ALL"
            " SELECT convert_from(canonical, 'UTF8')::jsonb FROM gatekeeper.audit_event) AS e"
            " WHERE event->>'kind' = 'session.cleaned'",
        )
        assert cleaned == [(BACKLOG, BACKLOG)]


@pytest.mark.parametrize("times", [8, pytest.param(50, marks=pytest.mark.slow)])
async def test_a_login_that_is_used_all_the_time_leaves_no_connection_when_it_is_revoked(
    target: PreparedTarget, provider: PostgreSQLProvider, times: int
) -> None:
    for _ in range(times):
        await revoke_under_fire(target, provider)


async def test_a_log_in_that_was_under_way_when_its_login_was_switched_off_is_ended_too(
    target: PreparedTarget, provider: PostgreSQLProvider
) -> None:
    """DROP DATABASE holds log-ins up after they were let in and before they are seen."""
    await target.rows("GRANT CONNECT ON DATABASE shop TO PUBLIC")  # as PostgreSQL has it
    login, oid, dsn = await new_login(target, provider)
    await provider.list_managed_users()  # so that it has a connection for ending
    dropping = asyncio.create_task(
        rows(make_conninfo(target.server.dsn("postgres")), "DROP DATABASE shop")
    )
    await eventually(partial(lock, target, granted=True), "the database is locked")
    late = asyncio.create_task(psycopg.AsyncConnection.connect(dsn, autocommit=True))
    await eventually(partial(lock, target, granted=False), "the log-in is under way")

    (proof,) = await provider.revoke_users([login.username], ObjectPolicy.DROP)

    assert isinstance(proof, UserRevoked)
    assert proof.gone, proof.left
    with pytest.raises(psycopg.errors.ObjectInUse):
        await dropping
    with pytest.raises(psycopg.OperationalError):
        await (await late).execute("SELECT 1")
    assert await target.rows("SELECT pid FROM pg_stat_activity WHERE usesysid = %s", oid) == []


async def lock(target: PreparedTarget, *, granted: bool) -> object:
    return await rows(
        target.server.dsn("postgres"),
        "SELECT pid FROM pg_locks WHERE granted = %s AND locktype = 'object'"
        " AND objid = (SELECT oid FROM pg_database WHERE datname = 'shop')"
        " AND mode = %s",
        granted,
        "AccessExclusiveLock" if granted else "RowExclusiveLock",
    )


async def revoke_under_fire(target: PreparedTarget, provider: PostgreSQLProvider) -> None:
    login, oid, dsn = await new_login(target, provider)
    held: list[psycopg.AsyncConnection] = []
    over = asyncio.Event()
    firing = [asyncio.create_task(log_in(dsn, held, over)) for _ in range(LOGGING_IN)]
    while len(held) < LOGGING_IN:
        await asyncio.sleep(0)

    (proof,) = await provider.revoke_users([login.username], ObjectPolicy.DROP)

    assert isinstance(proof, UserRevoked)
    assert proof.gone, proof.left
    for _ in range(10):
        assert await target.rows("SELECT pid FROM pg_stat_activity WHERE usesysid = %s", oid) == []
        await asyncio.sleep(0.01)
    over.set()
    await asyncio.gather(*firing)
    for connection in held:
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")
        await connection.close()
    assert await target.rows("SELECT 1 FROM pg_roles WHERE oid = %s", oid) == []


async def log_in(dsn: str, held: list[psycopg.AsyncConnection], over: asyncio.Event) -> None:
    """Log in again and again; keep the first that works, and let the others go."""
    while not over.is_set():
        try:
            held.append(await psycopg.AsyncConnection.connect(dsn, autocommit=True))
        except psycopg.OperationalError:
            await asyncio.sleep(0)


async def new_login(
    target: PreparedTarget, provider: PostgreSQLProvider
) -> tuple[CreateUser, int, str]:
    session = ids.session_id(secrets.token_bytes(ids.RANDOM_BYTES))
    password = scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
    login = CreateUser(
        session=session, username=ids.role_name(session), role="app_read",
        ttl=timedelta(hours=1), correlation_id="test",
        verifier=scram.make_verifier(password, secrets.token_bytes(scram.SALT_BYTES), 64),
    )  # fmt: skip
    await provider.create_ephemeral_user(login)
    ((oid,),) = await target.rows("SELECT oid FROM pg_roles WHERE rolname = %s", login.username)
    dsn = make_conninfo(target.server.dsn("shop"), user=login.username, password=password.reveal())
    return login, oid, dsn
