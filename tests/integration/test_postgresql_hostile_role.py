"""What the holder of a login may try, and what happens to each attempt."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
from test_postgresql_provider import Login, Target, target

from gatekeeper.bootstrap.target import prepare_sample_target
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.errors import TargetRefusedError
from gatekeeper.databases.model import ObjectPolicy, UserRevoked
from gatekeeper.kernel.errors import MAX_MESSAGE_CHARS, Failure
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from servers import NEWEST, SETTINGS, binaries

__all__ = ["target"]

HELD_UP = 8
"""Seconds; whoever is held up in earnest waits for a lock until it is refused."""
DENIED = psycopg.errors.InsufficientPrivilege


async def attempt(login: Login, query: str) -> None:
    async with await login.connect() as connection:
        await connection.execute(query.encode())


REFUSED = [
    "SET ROLE postgres",
    "SET ROLE gk_registry",
    "SET ROLE gk_owner_00",
    "SET SESSION AUTHORIZATION postgres",
    "GRANT app_admin TO {me}",
    "GRANT {me} TO app_read",
    "GRANT app_write TO gk_agent",
    "ALTER ROLE {me} CREATEROLE",
    "ALTER ROLE {me} SUPERUSER",
    "ALTER ROLE {me} VALID UNTIL 'infinity'",
    "ALTER ROLE {me} CONNECTION LIMIT -1",
    "ALTER ROLE gk_agent PASSWORD 'x'",
    "ALTER ROLE postgres PASSWORD 'x'",
    "CREATE ROLE mallory LOGIN",
    "DROP ROLE gk_agent",
    "COMMENT ON ROLE {me} IS 'forged'",
    "CREATE TABLE public.mine ()",
    "CREATE TEMP TABLE pg_roles ()",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION public.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION mine()",
    "SELECT gk.create_login('gk_aaaaaaaaaaaaaaaaaaaa', 'x', 'app_admin', '1 hour')",
    "SELECT gk.disable_logins('{{gk_aaaaaaaaaaaaaaaaaaaa}}')",
    "SELECT gk.make_role_00('gk_aaaaaaaaaaaaaaaaaaaa', 'x', 'app_admin', now(), 1, '{{}}')",
    "SELECT gk.end_backends('{{gk_aaaaaaaaaaaaaaaaaaaa}}')",
    "SELECT gk.list_logins()",
    "SELECT * FROM gk.login",
    "SELECT * FROM gk.installed",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "COPY orders TO PROGRAM 'cat'",
    "COPY orders TO '/tmp/stolen'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_reload_conf()",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SET log_statement = 'none'",
    "SELECT pg_switch_wal()",
    "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p",
    "CREATE DATABASE mine",
    "DROP TABLE orders",
    "TRUNCATE orders",
    "CREATE RULE r AS ON SELECT TO orders DO INSTEAD NOTHING",
    "CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "ALTER TABLE orders OWNER TO {me}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT SELECT ON TABLES TO {me}",
    "ALTER DATABASE shop SET search_path = mine",
    "ALTER ROLE app_read SET search_path = mine",
    "ALTER ROLE ALL SET search_path = mine",
    "ALTER FUNCTION gk.remains(text[]) SECURITY INVOKER",
    "CREATE TABLE gk.mine ()",
    "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    "CREATE TABLESPACE t LOCATION '/tmp'",
    "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
    "LOAD 'auto_explain'",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_export(1, '/tmp/stolen')",
    "SELECT pg_logical_emit_message(true, 'x', 'y'), pg_promote()",
]


async def test_what_is_refused_to_a_holder_who_may_write(target: Target) -> None:
    login = await target.login("app_write")
    answers = {attack: await sqlstate(login, attack.format(me=login.name)) for attack in REFUSED}

    refused = {DENIED.sqlstate, psycopg.errors.UndefinedObject.sqlstate}
    assert {a: state for a, state in answers.items() if state not in refused} == {}
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_rights_that_are_not_its_own_are_not_given_or_taken(target: Target) -> None:
    """These are answered with a warning, and do nothing."""
    login = await target.login("app_write")
    rights = "SELECT relacl FROM pg_class WHERE relname = 'orders'"
    before = await target.admin(rights)
    await attempt(login, "GRANT SELECT ON orders TO PUBLIC")
    await attempt(login, "REVOKE SELECT ON orders FROM app_read")

    assert await target.admin(rights) == before
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_who_may_read_cannot_write_or_lock_out_writers(target: Target) -> None:
    login = await target.login("app_read")
    for attack in (
        "INSERT INTO orders (customer, total) VALUES ('x', 1)",
        "UPDATE orders SET total = 0",
        "DELETE FROM orders",
        "SELECT nextval('orders_id_seq')",
        "SELECT setval('orders_id_seq', 1)",
        "SELECT * FROM orders FOR UPDATE",
        "COPY orders FROM STDIN",
        "BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE",
    ):
        with pytest.raises(DENIED):
            await attempt(login, attack)

    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


@pytest.mark.parametrize(
    ("role", "hold"),
    [
        ("app_read", "BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE"),
        ("app_write", "BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE"),
        ("app_read", "BEGIN; ALTER ROLE {me} SET search_path = mine"),
        ("app_read", "BEGIN; SELECT lo_create(0)"),
        ("app_write", "BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE orders SET total = total"),
        ("app_read", "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM orders"),
        ("app_read", "LISTEN x; SELECT pg_advisory_lock(n) FROM generate_series(1, 1000) AS n"),
        ("app_read", "PREPARE p AS SELECT * FROM orders"),
    ],
)
async def test_nothing_it_holds_keeps_it_from_being_ended(
    target: Target, role: str, hold: str
) -> None:
    await ends_what_holds(target, role, hold)


@pytest.mark.parametrize("target_server", NEWEST, indirect=True)  # a lock is waited for
async def test_nor_does_its_own_row_in_the_catalogue(target: Target) -> None:
    await ends_what_holds(target, "app_read", "BEGIN; ALTER ROLE {me} PASSWORD 'mine'")


async def ends_what_holds(target: Target, role: str, hold: str) -> None:
    login = await target.login(role)
    connection = await login.connect()
    for statement in hold.format(me=login.name).split("; "):
        await connection.execute(statement.encode())

    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT 1")


async def test_the_agents_connections_cannot_be_ended_by_it(target: Target) -> None:
    login = await target.login("app_write")
    await target.provider.health()
    for (pid,) in await target.admin(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'gk_agent' AND datname = 'shop'"
    ):
        for attack in ("pg_terminate_backend", "pg_cancel_backend"):
            with pytest.raises(DENIED):
                await attempt(login, f"SELECT {attack}({pid})")

    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_a_prepared_transaction_is_named_and_its_login_never_called_gone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It outlives its backend and keeps its locks; only a superuser can end it."""
    server = EmbeddedServer(
        tmp_path_factory.mktemp("prepared") / "data",
        binaries(18),
        settings={**SETTINGS, "max_prepared_transactions": "32"},
    )
    await server.start()
    try:
        agent_dsn = await prepare_sample_target(Secret(server.dsn()), "shop")
        world = Target(server, PostgreSQLProvider(agent_dsn), agent_dsn)
        login, locked, other = [await world.login("app_write") for _ in range(3)]
        await _prepare(login, "UPDATE orders SET total = total", "data")
        await _prepare(locked, f"ALTER ROLE {locked.name} PASSWORD 'mine'", "role")
        long = [f"{n}{'x' * 190}" for n in range(20)]
        for gid in long:
            await _prepare(locked, "SELECT 1", gid)

        answers = await world.provider.revoke_users(
            [login.name, locked.name, other.name], ObjectPolicy.DROP
        )
        plain, kept, free = answers
        assert isinstance(plain, UserRevoked)
        assert plain.left == ("role", "prepared transaction 'data' in shop")
        assert isinstance(kept, Failure)
        assert "prepared transaction 'role' in shop" in kept.message
        assert len(kept.message) < MAX_MESSAGE_CHARS
        assert isinstance(free, UserRevoked)
        assert free.gone

        for name in ("data", "role", *long):
            await world.admin(f"ROLLBACK PREPARED '{name}'")
        for one in (login, locked):
            assert (await world.revoke(one.name, ObjectPolicy.DROP)).gone
        await world.provider.close()
    finally:
        await server.stop()


async def _prepare(login: Login, query: str, name: str) -> None:
    async with await psycopg.AsyncConnection.connect(login.dsn, autocommit=True) as connection:
        for statement in ("BEGIN", query, f"PREPARE TRANSACTION '{name}'"):
            await connection.execute(statement.encode())


async def sqlstate(login: Login, query: str) -> str | None:
    """Return how the server refused it; None when it did not."""
    try:
        await attempt(login, query)
    except psycopg.Error as error:
        return error.sqlstate
    return None


@pytest.mark.parametrize("name", ["dblink", "postgres_fdw", "adminpack", "file_fdw"])
async def test_it_gets_no_extension_to_reach_out_with(target: Target, name: str) -> None:
    login = await target.login()

    with pytest.raises((DENIED, psycopg.errors.FeatureNotSupported)):
        await attempt(login, f"CREATE EXTENSION {name}")

    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_it_cannot_end_the_connections_of_others(target: Target) -> None:
    login, other = await target.login(), await target.login()
    async with await other.connect() as connection:
        pid = connection.info.backend_pid
        with pytest.raises(DENIED):
            await attempt(login, f"SELECT pg_terminate_backend({pid})")
        await connection.execute("SELECT 1")
    for one in (login, other):
        assert (await target.revoke(one.name, ObjectPolicy.DROP)).gone


async def test_it_may_change_its_own_password_and_that_is_seen(target: Target) -> None:
    login = await target.login()
    await attempt(login, f"ALTER ROLE {login.name} PASSWORD 'known to others'")

    users = {u.username: u for u in await target.provider.list_managed_users()}

    assert users[login.name].drift == ("its password was changed",)
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_settings_it_makes_for_itself_do_not_keep_it_alive(target: Target) -> None:
    login = await target.login()
    await attempt(login, f"ALTER ROLE {login.name} SET statement_timeout = 0")
    connection = await login.connect()
    await connection.execute("SET idle_session_timeout = 0")

    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT 1")


async def test_squatting_every_advisory_lock_it_can_think_of_does_not_hold_us_up(
    target: Target,
) -> None:
    login, victim = await target.login(), await target.login()
    async with await login.connect() as squatter:
        await squatter.execute(
            "SELECT pg_advisory_lock(hashtextextended(rolname, 0)), pg_advisory_lock(hashtext(rolname))"
            " FROM pg_roles"
        )
        async with asyncio.timeout(HELD_UP):
            assert (await target.revoke(victim.name, ObjectPolicy.DROP)).gone
            other = await target.login()
            assert (await target.revoke(other.name, ObjectPolicy.DROP)).gone
        assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_holding_row_locks_and_flooding_notifications_does_not_either(
    target: Target,
) -> None:
    login = await target.login("app_write")
    hog = await login.connect()
    await hog.execute("SELECT pg_notify('x', repeat('x', 7000)) FROM generate_series(1, 500)")
    await hog.execute("BEGIN")
    await hog.execute("SELECT * FROM orders FOR UPDATE")
    async with asyncio.timeout(HELD_UP):
        other = await target.login()
        assert (await target.revoke(other.name, ObjectPolicy.DROP)).gone
        assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_no_more_connections_than_the_pack_allows(target: Target) -> None:
    login = await target.login()
    held: list[object] = []
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        while len(held) <= 20:
            held.append(await login.connect())

    assert len(held) == 20
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_large_objects_and_default_privileges_do_not_make_it_undroppable(
    target: Target,
) -> None:
    login = await target.login()
    await attempt(login, "SELECT lo_from_bytea(0, 'x')")
    await attempt(login, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")

    proof = await target.revoke(login.name, ObjectPolicy.DROP)

    assert proof.gone
    assert any("large object" in text for owned in proof.owned for text in owned.objects)


@pytest.mark.parametrize("target_server", NEWEST, indirect=True)
async def test_more_large_objects_than_the_server_has_locks_do_not_either(target: Target) -> None:
    """Anybody may make them. Each takes a lock to be dropped, and the lock table is everybody's."""
    login, other = await target.login(), await target.login()
    await attempt(login, "SELECT count(lo_create(0)) FROM generate_series(1, 25000)")

    (kept,) = await target.provider.revoke_users([login.name], ObjectPolicy.QUARANTINE)
    assert isinstance(kept, UserRevoked)
    assert kept.owned[0].objects[-1] == "24980 more"

    first, second = await target.provider.revoke_users([login.name, other.name], ObjectPolicy.DROP)
    assert isinstance(first, UserRevoked)
    assert isinstance(second, UserRevoked)
    assert (first.left, second.left) == (("role", "objects in shop"), ())
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone
    assert await target.admin("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]


async def test_large_objects_that_are_kept_are_given_away_a_portion_after_the_other(
    target: Target,
) -> None:
    login = await target.login()
    await attempt(login, "SELECT count(lo_create(0)) FROM generate_series(1, 2500)")

    assert (await target.revoke(login.name, ObjectPolicy.REASSIGN)).gone

    graveyard = "FROM pg_largeobject_metadata WHERE lomowner = 'gk_graveyard'::regrole"
    assert await target.admin(f"SELECT count(*) {graveyard}") == [(2500,)]
    await target.admin(f"SELECT count(lo_unlink(oid)) {graveyard}")


@pytest.mark.parametrize(
    "ttl",
    [
        "8 hours 1 second",
        "1200 months -36000 days 1 second",
        "-1200 months 36600 days",
        "0",
        "-1 second",
    ],
)
async def test_whoever_has_the_agents_login_gets_none_that_outlives_its_pack(
    target: Target, ttl: str
) -> None:
    """As intervals, 1200 months and -36000 days are nothing; added to a time, 525 days."""
    login = await target.login("app_read")
    made = "SELECT gk.create_login('gk_aaaaaaaaaaaaaaaaaaaa', %s, 'app_read', %s)"
    async with await psycopg.AsyncConnection.connect(target.agent_dsn.reveal()) as agent:
        for query, values in (
            (made, (login.request.verifier, ttl)),
            ("SELECT gk.extend_login(%s, %s)", (login.name, ttl)),
        ):
            with pytest.raises(psycopg.Error, match="the TTL is outside"):
                await agent.execute(query.encode(), values)
            await agent.rollback()
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


@pytest.mark.parametrize("older", ["0", "-1 year", "-1200 months 36501 days"])
async def test_nor_does_it_have_an_ended_login_forgotten_to_make_it_anew(
    target: Target, older: str
) -> None:
    login = await target.login()
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone
    async with await psycopg.AsyncConnection.connect(
        target.agent_dsn.reveal(), autocommit=True
    ) as agent:
        await agent.execute("SELECT gk.forget_ended(%s)", (older,))

    with pytest.raises(TargetRefusedError, match="ended before"):
        await target.provider.create_ephemeral_user(login.request)


@pytest.mark.parametrize("target_server", NEWEST, indirect=True)
async def test_after_its_time_no_new_login_is_let_in_by_the_database_itself(target: Target) -> None:
    login = await target.login(ttl=timedelta(seconds=1))
    await attempt(login, "SELECT 1")
    await asyncio.sleep(1.2)

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await login.connect()
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone
