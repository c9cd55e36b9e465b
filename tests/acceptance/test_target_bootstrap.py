"""`gk target bootstrap` as a person runs it, with role packs of her own."""

import asyncio
import json
import os
import re
import secrets
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from acceptance.local_stack import GK
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.model import CreateUser, ObjectPolicy, UserRevoked
from gatekeeper.kernel import ids, scram
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer

DATABASE = "own_packs"
SCHEMA = Path(__file__).parents[2] / "docs/reference/schemas/gk-target-bootstrap.json"
MANIFEST = """
version = "mine-1"
[[packs]]
name = "report_read"
file = "report_read.sql"
about = "SELECT on one view."
max_ttl = "30m"
connection_limit = 3
"""
PACK = """
GRANT CONNECT ON DATABASE {database} TO report_read;
GRANT USAGE ON SCHEMA {schema} TO report_read;
GRANT SELECT ON {schema}.report TO report_read;
"""


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    (tmp_path / "manifest.toml").write_text(MANIFEST)
    (tmp_path / "report_read.sql").write_text(PACK)
    return tmp_path


@pytest.fixture
def admin(target_server: EmbeddedServer) -> str:
    """Make the database that is to be set up anew."""
    with psycopg.connect(target_server.dsn(), autocommit=True) as server:
        name = sql.Identifier(DATABASE)
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        server.execute(sql.SQL("CREATE DATABASE {}").format(name))
    with psycopg.connect(target_server.dsn(DATABASE), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE ledger (amount int); INSERT INTO ledger VALUES (1), (2);"
            "CREATE VIEW report AS SELECT sum(amount) AS total FROM ledger"
        )
    with psycopg.connect(target_server.dsn(), autocommit=True) as server:
        if server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'gk_agent'").fetchone():
            server.execute("ALTER ROLE gk_agent PASSWORD NULL")
    return target_server.dsn(DATABASE)


def bootstrap(
    admin: str | None, *arguments: str, check: int = 0
) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if k != "GATEKEEPER_ADMIN_DSN"}
    if admin is not None:
        environment["GATEKEEPER_ADMIN_DSN"] = admin
    done = subprocess.run(
        [
            *GK, "target", "bootstrap", "--database", DATABASE, "--owner", "postgres",
            "--shards", "2", *arguments,
        ],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == check, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def objects(admin: str) -> list[Any]:
    query = (
        "SELECT 'role ' || rolname FROM pg_roles UNION ALL SELECT 'schema ' || nspname"
        " FROM pg_namespace UNION ALL SELECT 'function ' || proname FROM pg_proc"
        " JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'gk'"
        " UNION ALL SELECT 'table ' || relname FROM pg_class JOIN pg_namespace n"
        " ON n.oid = relnamespace WHERE nspname = 'gk' AND relkind = 'r' ORDER BY 1"
    )
    with psycopg.connect(admin) as connection:
        return [row[0] for row in connection.execute(query)]


def test_a_dry_run_names_everything_and_changes_nothing_and_twice_is_a_no_op(
    admin: str, packs: Path
) -> None:
    before = objects(admin)
    planned = bootstrap(admin, "--packs", str(packs), "--sql")

    assert objects(admin) == before
    assert "nothing was changed" in planned.stderr
    done = bootstrap(admin, "--packs", str(packs), "--apply")
    made = {name for name in objects(admin) if name not in before}
    assert "role report_read" in {*made, *before}
    for name in made:
        if not name.startswith("table installed"):  # the note of what was done
            assert re.search(rf"\b{name.split()[1]}\b", planned.stdout), name
    assert len(done.stdout.splitlines()[-1]) > 40
    assert done.stdout.count("done  ") == planned.stdout.count("would do  ")
    again = bootstrap(admin, "--packs", str(packs), "--apply")
    assert again.stdout == ""
    assert "nothing to do" in again.stderr
    more = bootstrap(admin, "--packs", str(packs), "--shards", "3", "--apply")
    assert more.stdout.count("done  ") == len(more.stdout.splitlines()) > 0, "no second password"


def test_a_session_with_an_own_pack_may_what_the_pack_says(
    admin: str, packs: Path, target_server: EmbeddedServer
) -> None:
    report = json.loads(bootstrap(admin, "--packs", str(packs), "--apply", "--json").stdout)

    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert report["applied"]
    assert {"database": DATABASE, "name": "grants of report_read"} in report["steps"]
    asyncio.run(session_with_own_pack(Secret(report["agentDsn"]), target_server))


async def session_with_own_pack(agent: Secret, server: EmbeddedServer) -> None:
    provider = PostgreSQLProvider(agent)
    password = scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
    session = ids.session_id(secrets.token_bytes(ids.RANDOM_BYTES))
    name = ids.role_name(session)
    try:
        await provider.create_ephemeral_user(
            CreateUser(
                session=session, username=name, role="report_read", ttl=timedelta(minutes=5),
                verifier=scram.make_verifier(password, secrets.token_bytes(scram.SALT_BYTES), 64),
                correlation_id="test",
            )
        )  # fmt: skip
        dsn = make_conninfo(server.dsn(DATABASE), user=name, password=password.reveal())
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as holder:
            cursor = await holder.execute("SELECT total FROM report")
            assert await cursor.fetchone() == (3,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await holder.execute("SELECT * FROM ledger")
        (proof,) = await provider.revoke_users([name], ObjectPolicy.DROP)
        assert isinstance(proof, UserRevoked)
        assert proof.gone
    finally:
        await provider.close()


def test_what_cannot_be_done_is_said_in_words(server_18: EmbeddedServer, packs: Path) -> None:
    assert "GATEKEEPER_ADMIN_DSN" in bootstrap(None, check=2).stderr
    away = "postgresql://admin:secret-canary@127.0.0.1:9/x"
    said = bootstrap(away, check=6).stderr
    assert "does not answer" in said
    assert "canary" not in said
    dsn = server_18.dsn("postgres")
    (packs / "report_read.sql").write_text("GRANT SELECT ON {table} TO report_read;")
    said = bootstrap(dsn, "--packs", str(packs), check=2).stderr
    assert "report_read.sql: write {schema}, {database}, {owner}" in said
    (packs / "report_read.sql").unlink()
    said = bootstrap(dsn, "--packs", str(packs), check=2).stderr
    assert "report_read.sql: No such file" in said


@pytest.mark.parametrize("target_server", ["18"], indirect=True)
def test_a_pack_that_the_database_refuses_is_named(admin: str, packs: Path) -> None:
    (packs / "report_read.sql").write_text("GRANT SELECT ON {schema}.nothing TO report_read;")
    said = bootstrap(admin, "--packs", str(packs), "--apply", check=1).stderr

    assert "step 'grants of report_read'" in said
    assert "nothing" in said
