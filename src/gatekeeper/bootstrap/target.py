"""Setting up a target, and the sample target of a stack on one machine."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from gatekeeper.databases.adapters.postgresql import bootstrap
from gatekeeper.databases.adapters.postgresql.bootstrap import (
    DEFAULT_SHARDS,
    MAX_SHARDS,
    Setup,
    Step,
)
from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAMPLE: Final = """
CREATE TABLE IF NOT EXISTS customers (
    id serial PRIMARY KEY, name text NOT NULL, city text NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    id serial PRIMARY KEY, customer text NOT NULL, total numeric(10, 2) NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now());
INSERT INTO customers (name, city)
    SELECT * FROM (VALUES ('Ada', 'London'), ('Grace', 'New York'), ('Edsger', 'Nuenen')) v
    WHERE NOT EXISTS (SELECT 1 FROM customers);
INSERT INTO orders (customer, total)
    SELECT * FROM (VALUES ('Ada', 42.00), ('Grace', 17.50), ('Edsger', 99.95)) v
    WHERE NOT EXISTS (SELECT 1 FROM orders);
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
"""


async def bootstrap_target(
    admin: Secret, setup: bootstrap.Setup, *, apply: bool
) -> Sequence[bootstrap.Step]:
    """Return the steps that a target still needs; with `apply`, also run them."""
    steps = await bootstrap.plan(admin, setup)
    if apply:
        await bootstrap.apply(admin, steps)
    return steps


async def agent_can_log_in(admin: Secret, database: str) -> bool:
    """Tell whether the agent's login has a password already: it is not changed again."""
    return await bootstrap.agent_can_log_in(admin, database)


async def new_agent_dsn(admin: Secret, database: str) -> Secret:
    """Give the agent's login a new password; return the DSN it logs in with."""
    password = scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
    verifier = scram.make_verifier(password, secrets.token_bytes(scram.SALT_BYTES))
    await bootstrap.set_agent_password(admin, database, verifier)
    return Secret(
        make_conninfo(admin.reveal(), user="gk_agent", password=password.reveal(), dbname=database)
    )


async def prepare_sample_target(
    admin: Secret, database: str, *, shards: int = DEFAULT_SHARDS
) -> Secret:
    """Make a database with sample tables, set it up, and return the agent's DSN."""
    async with await psycopg.AsyncConnection.connect(admin.reveal(), autocommit=True) as server:
        if not await _exists(server, "SELECT 1 FROM pg_database WHERE datname = %s", database):
            await server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        for name in (database, "postgres", "template1"):
            await server.execute(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
            )
    async with await psycopg.AsyncConnection.connect(
        make_conninfo(admin.reveal(), dbname=database), autocommit=True
    ) as shop:
        await shop.execute(_SAMPLE)
    setup = bootstrap.Setup(databases=(database, "postgres"), owners=("postgres",), shards=shards)
    await bootstrap_target(admin, setup, apply=True)
    return await new_agent_dsn(admin, database)


async def _exists(connection: psycopg.AsyncConnection, query: str, value: str) -> bool:
    cursor = await connection.execute(query.encode(), (value,))
    return await cursor.fetchone() is not None


__all__ = [
    "DEFAULT_SHARDS",
    "MAX_SHARDS",
    "Setup",
    "Step",
    "agent_can_log_in",
    "bootstrap_target",
    "new_agent_dsn",
    "prepare_sample_target",
]
