"""The provider on real servers of three versions: what is made works, what is ended is gone.

What holds for every provider is in `tests/contract/test_database_provider.py`.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from gatekeeper.bootstrap.target import Setup, bootstrap_target, prepare_sample_target
from gatekeeper.databases.adapters.postgresql import bootstrap
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.errors import (
    TargetMisconfiguredError,
    TargetRefusedError,
    TargetUnreachableError,
)
from gatekeeper.databases.model import (
    CheckStatus,
    CreateUser,
    ObjectPolicy,
    UserCreated,
    UserRevoked,
)
from gatekeeper.kernel import ids, scram
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.ids import RoleName
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.pool import NETWORK, Pool

HOUR = timedelta(hours=1)


@dataclass
class Target:
    server: EmbeddedServer
    provider: PostgreSQLProvider
    agent_dsn: Secret
    held: list[psycopg.AsyncConnection[tuple[object, ...]]] = field(default_factory=list)

    async def admin(self, query: str, database: str = "shop") -> list[tuple[object, ...]]:
        async with await psycopg.AsyncConnection.connect(
            self.server.dsn(database), autocommit=True
        ) as connection:
            cursor = await connection.execute(query.encode())
            return await cursor.fetchall() if cursor.description else []

    async def login(self, role: str = "app_read", ttl: timedelta = HOUR) -> "Login":
        password = scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
        session = ids.session_id(secrets.token_bytes(ids.RANDOM_BYTES))
        request = CreateUser(
            session=session,
            username=ids.role_name(session),
            role=role,
            ttl=ttl,
            verifier=scram.make_verifier(password, secrets.token_bytes(scram.SALT_BYTES), 64),
            correlation_id="test",
        )
        made = await self.provider.create_ephemeral_user(request)
        dsn = make_conninfo(
            self.server.dsn("shop"), user=request.username, password=password.reveal()
        )
        return Login(request, made, dsn, self.held)

    async def revoke(self, name: RoleName, objects: ObjectPolicy) -> UserRevoked:
        (proof,) = await self.provider.revoke_users([name], objects)
        assert isinstance(proof, UserRevoked)
        return proof

    async def exists(self, name: str) -> bool:
        return bool(await self.admin(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"))


@dataclass
class Login:
    request: CreateUser
    made: UserCreated
    dsn: str
    held: list[psycopg.AsyncConnection[tuple[object, ...]]]

    @property
    def name(self) -> RoleName:
        return self.request.username

    async def connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)
        self.held.append(connection)
        return connection


@pytest.fixture
async def target(target_server: EmbeddedServer) -> AsyncIterator[Target]:
    agent_dsn = await prepare_sample_target(Secret(target_server.dsn()), "shop")
    provider = PostgreSQLProvider(agent_dsn)
    world = Target(target_server, provider, agent_dsn)
    yield world
    for connection in world.held:
        await connection.close()
    await provider.close()


async def test_bootstrap_twice_is_a_no_op_and_names_its_steps_before(target: Target) -> None:
    setup = Setup(databases=("shop", "postgres"), owners=("postgres",))

    assert await bootstrap_target(Secret(target.server.dsn()), setup, apply=False) == ()
    more = Setup(databases=("shop", "postgres"), owners=("postgres",), shards=17)
    steps = await bootstrap_target(Secret(target.server.dsn()), more, apply=False)
    assert "owner 16" in {step.name for step in steps}


async def test_a_login_reads_and_does_not_write(target: Target) -> None:
    login = await target.login("app_read")
    async with await login.connect() as connection:
        cursor = await connection.execute("SELECT count(*) > 0 FROM orders")
        assert await cursor.fetchone() == (True,)
        for query in ("DELETE FROM orders", "CREATE TABLE x ()", "CREATE TEMP TABLE x ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(query.encode())
    await target.revoke(login.name, ObjectPolicy.DROP)


async def test_packs_reach_serial_tables_and_tables_made_later(target: Target) -> None:
    await target.admin("DROP TABLE IF EXISTS later")
    login = await target.login("app_write")
    await target.admin("CREATE TABLE later (id serial PRIMARY KEY, t text)")
    async with await login.connect() as connection:
        await connection.execute("INSERT INTO later (t) VALUES ('x')")
        await connection.execute("UPDATE later SET t = 'y'")
        await connection.execute("DELETE FROM later")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("TRUNCATE later")
    await target.revoke(login.name, ObjectPolicy.DROP)
    admin = await target.login("app_admin")
    async with await admin.connect() as connection:
        await connection.execute("TRUNCATE later")
    assert (await target.revoke(admin.name, ObjectPolicy.DROP)).gone


@pytest.mark.parametrize(
    "change",
    [
        {"username": "postgres"},
        {"username": "gk_agent"},
        {"username": "gk_" + "A" * 20},
        {"username": "gk_" + "a" * 60},
        {"username": "gk_" + "а" * 20},
        {"role": "pg_write_server_files"},
        {"role": "postgres"},
        {"role": "gk_owner_00"},
        {"verifier": "plaintext"},
        {"verifier": "md5" + "0" * 32},
        {"ttl": timedelta(0)},
        {"ttl": timedelta(seconds=-5)},
        {"ttl": timedelta(days=2)},
    ],
)
async def test_the_database_itself_refuses_what_is_no_login_of_ours(
    target: Target, change: dict[str, object]
) -> None:
    session = ids.session_id(secrets.token_bytes(ids.RANDOM_BYTES))
    request = CreateUser(
        session=session, username=ids.role_name(session), role="app_read", ttl=HOUR,
        verifier=scram.make_verifier(Secret("x"), b"s" * 16, 64), correlation_id="c",
    )  # fmt: skip
    before = await target.admin("SELECT count(*) FROM pg_roles")

    with pytest.raises(TargetRefusedError) as caught:
        await target.provider.create_ephemeral_user(replace(request, **change))  # type: ignore[arg-type]

    assert str(change.get("verifier", "?")) not in str(caught.value)
    assert await target.admin("SELECT count(*) FROM pg_roles") == before


async def test_every_connection_of_the_holder_ends_whatever_it_does(target: Target) -> None:
    login = await target.login("app_write")
    held = [await login.connect() for _ in range(20)]
    busy = asyncio.create_task(held[0].execute("SELECT pg_sleep(60)"))
    await held[1].execute("BEGIN")
    await held[1].execute("UPDATE orders SET total = total")
    await held[2].execute("LISTEN x")
    await asyncio.sleep(0.1)

    proof = await target.revoke(login.name, ObjectPolicy.QUARANTINE)

    assert proof.gone
    assert proof.backends_ended == 20
    assert proof.access_cut_at <= proof.verified_at
    with pytest.raises(psycopg.OperationalError):
        await busy
    for connection in held[1:]:
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        await login.connect()
    assert not await target.exists(login.name)


async def test_a_holder_who_did_set_role_loses_access_too(target: Target) -> None:
    """From 16 on SET ROLE is refused; before, only ending the connection helps."""
    login = await target.login("app_read")
    connection = await login.connect()
    try:
        await connection.execute("SET ROLE app_read")
    except psycopg.errors.InsufficientPrivilege:
        assert connection.info.server_version >= 160_000
    else:
        assert connection.info.server_version < 160_000

    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone

    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT * FROM orders")


@pytest.mark.parametrize("objects", list(ObjectPolicy))
async def test_owned_objects_in_every_database_are_handled_by_policy(
    target: Target, objects: ObjectPolicy
) -> None:
    login = await target.login("app_write")
    table = f"own_{login.name[3:9]}"
    for database in ("shop", "postgres"):
        await target.admin(f"GRANT CREATE ON SCHEMA public TO {login.name}", database)
        await target.admin(f"SET ROLE {login.name}; CREATE TABLE {table} (); RESET ROLE;", database)
        await target.admin(f"REVOKE CREATE ON SCHEMA public FROM {login.name}", database)
    async with await login.connect() as connection:
        await connection.execute("SELECT lo_create(0)")
        await connection.execute(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO app_read"
        )

    proof = await target.revoke(login.name, objects)

    owned = {o.database: o.objects for o in proof.owned}
    assert set(owned) == {"shop", "postgres"}
    assert any(table in text for text in owned["shop"])
    kept = await target.admin(
        f"SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = '{table}'"
    )
    if objects is ObjectPolicy.QUARANTINE:
        assert not proof.gone
        assert proof.left == ("role", "objects in postgres", "objects in shop")
        assert kept == [(login.name,)]
        powers = "rolcanlogin, pg_has_role(oid, 'app_write', 'MEMBER')"
        assert await target.admin(
            f"SELECT {powers} FROM pg_roles WHERE rolname = '{login.name}'"
        ) == [(False, False)]
        proof = await target.revoke(login.name, ObjectPolicy.DROP)
    elif objects is ObjectPolicy.REASSIGN:
        assert kept == [("gk_graveyard",)]
        for database in ("shop", "postgres"):
            await target.admin(f"DROP TABLE {table}", database)
    else:
        assert kept == []
    assert proof.gone
    assert not await target.exists(login.name)


async def test_a_right_that_somebody_else_granted_is_named_and_never_called_gone(
    target: Target,
) -> None:
    """Only its grantor can take it back (and a superuser): the login stays off, and says so."""
    login = await target.login()
    await target.admin(f"GRANT SELECT ON orders TO {login.name}")

    proof = await target.revoke(login.name, ObjectPolicy.DROP)

    assert not proof.gone
    assert proof.left == ("role", "objects in shop")
    with pytest.raises(psycopg.OperationalError):
        await login.connect()
    await target.admin(f"REVOKE SELECT ON orders FROM {login.name}")
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_drift_is_seen(target: Target) -> None:
    login = await target.login()
    async with await login.connect() as connection:
        await connection.execute(f"ALTER ROLE {login.name} PASSWORD 'mine'".encode())
    await target.admin(f"ALTER ROLE {login.name} VALID UNTIL 'infinity' CREATEDB")
    await target.admin(f"GRANT app_admin TO {login.name}")
    await target.admin("DROP ROLE IF EXISTS gk_" + "b" * 20)
    await target.admin("CREATE ROLE gk_" + "b" * 20)

    users = {user.username: user for user in await target.provider.list_managed_users()}

    assert set(users[login.name].drift) == {
        "its end was moved", "it was given attributes", "its memberships were changed",
        "its password was changed",
    }  # fmt: skip
    assert users[RoleName("gk_" + "b" * 20)].drift[0] == "it was not made by these helpers"
    await target.admin("DROP ROLE gk_" + "b" * 20)
    await target.admin(f"REVOKE app_admin FROM {login.name}")
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


async def test_the_agents_login_can_do_nothing_else(target: Target) -> None:
    async with await psycopg.AsyncConnection.connect(
        target.agent_dsn.reveal(), autocommit=True
    ) as agent:
        for attack in (
            "CREATE ROLE x", "ALTER ROLE postgres PASSWORD 'x'", "GRANT app_read TO gk_agent",
            "SET ROLE gk_registry", "SELECT * FROM gk.login", "SELECT * FROM gk.pack",
            "INSERT INTO gk.pack VALUES ('pg_read_server_files', 'x', '1 day', 1, '{}')",
            "SELECT * FROM orders", "SELECT rolpassword FROM pg_authid",
            "SELECT gk.make_role_00('gk_aaaaaaaaaaaaaaaaaaaa', 'x', 'postgres', now(), 1, '{}')",
            "SELECT gk.drop_role_00('postgres')", "CREATE TABLE x ()",
            "COPY orders TO PROGRAM 'cat'", "SELECT pg_read_file('/etc/passwd')",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await agent.execute(attack.encode())


async def test_a_database_that_was_not_set_up_is_named_as_that(server_18: EmbeddedServer) -> None:
    await prepare_sample_target(Secret(server_18.dsn()), "shop")
    async with await psycopg.AsyncConnection.connect(server_18.dsn(), autocommit=True) as admin:
        await admin.execute("DROP DATABASE IF EXISTS bare")
        await admin.execute("CREATE DATABASE bare")
    provider = PostgreSQLProvider(Secret(server_18.dsn("bare")))
    try:
        with pytest.raises(TargetMisconfiguredError, match="doctor"):
            await provider.list_managed_users()
        missing = [c for c in await provider.doctor() if c.status is CheckStatus.FAILED]
        assert missing[0].name == "schema"
        assert missing[0].fix is not None
        assert "gk target bootstrap" in missing[0].fix
    finally:
        await provider.close()


async def test_a_network_that_goes_away_is_noticed_by_every_connection_that_is_kept(
    target: Target, store_dsn: str
) -> None:
    store = Pool(Secret(store_dsn), name="store")
    await store.open()
    try:
        for kept in (store, target.provider._issue, target.provider._cleanup):
            async with kept.connection() as connection:
                known = connection.info.get_parameters()
                assert {name: known[name] for name in NETWORK} == {
                    name: str(value) for name, value in NETWORK.items()
                }
    finally:
        await store.close()


async def test_an_unreachable_server_is_named_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatekeeper.databases.adapters.postgresql.helpers.WAIT_SECONDS", 0.5)
    provider = PostgreSQLProvider(Secret("postgresql://nobody:secret-canary@127.0.0.1:9/none"))
    try:
        with pytest.raises(TargetUnreachableError) as caught:
            await provider.health()
    finally:
        await provider.close()

    assert caught.value.retryable
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("target_server", ["18"], indirect=True)
async def test_a_pack_of_ones_own_brings_its_limit_and_its_settings(
    target: Target, tmp_path: Path
) -> None:
    (tmp_path / "own_read.sql").write_text(
        "GRANT CONNECT ON DATABASE {database} TO own_read;"
        " GRANT USAGE ON SCHEMA {schema} TO own_read;"
        " GRANT SELECT ON orders TO own_read;"
    )
    (tmp_path / "manifest.toml").write_text(
        """
        version = "own-1"
        [[packs]]
        name = "own_read"
        file = "own_read.sql"
        about = "SELECT on orders."
        max_ttl = "1h"
        connection_limit = 2
        settings = ["search_path=public, pg_catalog", "statement_timeout=5s",
                    "idle_in_transaction_session_timeout=7s"]
        """
    )
    setup = Setup(databases=("shop",), owners=("postgres",), packs=tmp_path)
    await bootstrap_target(Secret(target.server.dsn()), setup, apply=True)
    assert await bootstrap_target(Secret(target.server.dsn()), setup, apply=False) == ()

    login = await target.login("own_read")
    first = await login.connect()
    seen = [
        (await (await first.execute(f"SHOW {name}".encode())).fetchone() or ("?",))[0]
        for name in ("search_path", "statement_timeout", "idle_in_transaction_session_timeout")
    ]
    await first.execute("SELECT * FROM orders")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await first.execute("SELECT * FROM customers")
    await login.connect()
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        await login.connect()

    assert seen == ["public, pg_catalog", "5s", "7s"]
    assert (await target.revoke(login.name, ObjectPolicy.DROP)).gone


def test_a_pack_folder_that_cannot_be_used_is_refused_with_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="manifest.toml"):
        bootstrap.load_packs(tmp_path)
    (tmp_path / "manifest.toml").write_text('version = "1"\npacks = [{name = "Bad Name"}]\n')
    with pytest.raises(InputError, match="name"):
        bootstrap.load_packs(tmp_path)
