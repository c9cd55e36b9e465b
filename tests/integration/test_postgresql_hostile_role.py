"""What the holder of a login may try, and what happens to each attempt."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
from test_postgresql_provider import Login, Target, target

from gatekeeper.databases.model import ObjectPolicy

__all__ = ["target"]

DENIED = psycopg.errors.InsufficientPrivilege


async def attempt(login: Login, query: str) -> None:
    async with await login.connect() as connection:
        await connection.execute(query.encode())


@pytest.mark.parametrize(
    "attack",
    [
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
        "ALTER TABLE orders OWNER TO {me}",
        "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE",
    ],
)
async def test_refused(target: Target, attack: str) -> None:
    login = await target.login("app_read")

    with pytest.raises(DENIED):
        await attempt(login, attack.format(me=login.name))

    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


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
        async with asyncio.timeout(3):
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
    async with asyncio.timeout(3):
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


async def test_after_its_time_no_new_login_is_let_in_by_the_database_itself(target: Target) -> None:
    login = await target.login(ttl=timedelta(seconds=1))
    await attempt(login, "SELECT 1")
    await asyncio.sleep(1.2)

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await login.connect()
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone
