"""Sets a target up: roles, helpers and role packs, from the SQL files beside this module.

A plan is made first and names every step with its SQL; applying it twice is a no-op,
because each step leaves the digest of its text in the database it changed.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gatekeeper.databases.adapters.postgresql.translate import translated
from gatekeeper.databases.errors import TargetMisconfiguredError
from gatekeeper.databases.model import ROLE_PACK_VERSION
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.ttl import parse_ttl

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from gatekeeper.kernel.secret import Secret

DEFAULT_SHARDS: Final = 16
MAX_SHARDS: Final = 64
_SECOND_GRANTOR_MAJOR: Final = 16
"""From here on memberships have INHERIT and SET of their own, and creators get ADMIN."""

_NO_FAULT_OF_THE_SQL: Final = ("08", "53", "57")
"""SQLSTATE classes of connections, resources and operators."""

_IS_THERE: Final = "SELECT 1 FROM pg_roles WHERE rolname = 'gk_agent'"
_CAN_LOG_IN: Final = (
    "SELECT 1 FROM pg_authid WHERE rolname = 'gk_agent' AND rolpassword IS NOT NULL"
)
_DIGESTS: Final = """
CREATE SCHEMA IF NOT EXISTS gk;
REVOKE ALL ON SCHEMA gk FROM PUBLIC;
CREATE TABLE IF NOT EXISTS gk.installed (step text PRIMARY KEY, sha256 text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
REVOKE ALL ON gk.installed FROM PUBLIC;
"""


class Pack(BaseModel):
    """A role pack of a manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    file: str = Field(pattern=r"^[a-z0-9_.-]+\.sql$")
    about: str
    max_ttl: str
    connection_limit: int = Field(ge=1, le=1000)
    settings: tuple[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_.]*=.+$")], ...] = ()
    """Role settings, as `name=value`; a holder can change them, so they are no limits."""


class Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    packs: tuple[Pack, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a target is to look like."""

    databases: tuple[str, ...]
    """The first is the home of the helpers; in each, packs and object helpers are installed."""
    owners: tuple[str, ...]
    """Whose later tables the packs are to reach too (default privileges)."""
    schemas: tuple[str, ...] = ("public",)
    shards: int = DEFAULT_SHARDS
    packs: Path | None = None
    """A folder with a manifest.toml; None: the packs of this release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One piece of SQL for one database."""

    name: str
    database: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


async def plan(admin: Secret, setup: Setup) -> tuple[Step, ...]:
    """Return the steps that are still to be done, in their order.

    Raises `InputError` for an unusable pack folder, and errors of a target.
    """
    with translated():
        async with await _connect(admin, setup.databases[0]) as connection:
            major = connection.info.server_version // 10_000
            steps = tuple(_steps(setup, major, connection))
        done = {name: await _installed(admin, name) for name in setup.databases}
    return tuple(step for step in steps if done[step.database].get(step.name) != step.sha256)


async def apply(admin: Secret, steps: Sequence[Step]) -> None:
    """Run the steps, each in a transaction that also notes its digest."""
    with translated():
        for step in steps:
            async with await _connect(admin, step.database) as connection:
                await connection.execute(_DIGESTS.encode())
                async with connection.transaction():
                    await _run(connection, step)
                    await connection.execute(
                        "INSERT INTO gk.installed (step, sha256) VALUES (%s, %s)"
                        " ON CONFLICT (step) DO UPDATE SET sha256 = excluded.sha256,"
                        " at = clock_timestamp()",
                        (step.name, step.sha256),
                    )


async def _run(connection: psycopg.AsyncConnection[Any], step: Step) -> None:
    """Run a step's SQL. What the database says of it holds nothing but the admin's own words."""
    try:
        await connection.execute(step.text.encode())
    except psycopg.Error as error:
        if not error.sqlstate or error.sqlstate.startswith(_NO_FAULT_OF_THE_SQL):
            raise
        msg = f"step {step.name!r} in database {step.database!r}: {error.diag.message_primary}"
        raise TargetMisconfiguredError(msg) from None


async def agent_can_log_in(admin: Secret, database: str) -> bool:
    """Tell whether the agent's login is there and, as far as `admin` may see, has a password."""
    with translated():
        async with await _connect(admin, database) as connection:
            try:
                cursor = await connection.execute(_CAN_LOG_IN)
            except psycopg.errors.InsufficientPrivilege:  # managed servers
                cursor = await connection.execute(_IS_THERE)
            return await cursor.fetchone() is not None


async def set_agent_password(admin: Secret, database: str, verifier: str) -> None:
    """Give the agent's login a new password, by its verifier."""
    with translated():
        async with await _connect(admin, database) as connection:
            await connection.execute(
                sql.SQL("ALTER ROLE gk_agent LOGIN PASSWORD {}").format(sql.Literal(verifier))
            )


def load_packs(folder: Path | None) -> tuple[Manifest, Path | Traversable]:
    """Read a manifest. Raises `InputError` that names what is wrong in it."""
    place: Path | Traversable = folder or (
        resources.files("gatekeeper.databases.adapters.postgresql") / "packs" / ROLE_PACK_VERSION
    )
    try:
        manifest = Manifest.model_validate(tomllib.loads((place / "manifest.toml").read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        msg = f"{place}/manifest.toml: {error}"
        raise InputError(msg) from error
    return manifest, place


def _steps(setup: Setup, major: int, connection: psycopg.AsyncConnection) -> Iterator[Step]:
    manifest, place = load_packs(setup.packs)
    home, template = setup.databases[0], _Template(major, setup.shards)
    yield Step(name="server roles", database=home, text=template.render("server.sql"))
    yield Step(name="registry and helpers", database=home, text=template.render("home.sql"))
    for shard in range(setup.shards):
        yield Step(
            name=f"owner {shard:02}", database=home, text=template.render("shard.sql", shard)
        )
    for pack in manifest.packs:
        text = _pack_role(pack, manifest, setup.shards, major, connection)
        yield Step(name=f"role pack {pack.name}", database=home, text=text)
    for database in setup.databases:
        for shard in range(setup.shards):
            text = template.render("objects.sql", shard)
            yield Step(name=f"objects of owner {shard:02}", database=database, text=text)
        for pack in manifest.packs:
            text = _pack_grants(_pack_sql(place, pack), database, setup, connection)
            yield Step(name=f"grants of {pack.name}", database=database, text=text)


def helpers_text(major: int, shards: int) -> str:
    """Return the SQL of all helpers, as this release installs them on such a server."""
    template = _Template(major, shards)
    sharded = (template.render(f, n) for f in ("shard.sql", "objects.sql") for n in range(shards))
    return "\n".join((template.render("home.sql"), *sharded))


class _Template:
    """Puts the version's clauses and numbers of ours into the SQL files; never data."""

    def __init__(self, major: int, shards: int) -> None:
        modern = major >= _SECOND_GRANTOR_MAJOR
        self._words = {
            "__SHARDS__": str(shards),
            "__MEMBERSHIP__": "WITH INHERIT TRUE, SET FALSE" if modern else "",
            "__SELF_GRANT__": "SET createrole_self_grant = ''" if modern else "",
        }

    def render(self, file: str, shard: int = 0) -> str:
        folder = resources.files("gatekeeper.databases.adapters.postgresql") / "sql"
        text = (folder / file).read_text()
        for word, value in {**self._words, "__SHARD__": f"{shard:02}"}.items():
            text = text.replace(word, value)
        return text


def _pack_role(
    pack: Pack,
    manifest: Manifest,
    shards: int,
    major: int,
    connection: psycopg.AsyncConnection,
) -> str:
    name = sql.Identifier(pack.name)
    parts: list[sql.Composable] = [
        sql.SQL(
            "DO $$ BEGIN CREATE ROLE {} NOLOGIN; EXCEPTION WHEN duplicate_object THEN END $$;\n"
        ).format(name),
        sql.SQL(
            "INSERT INTO gk.pack (name, version, max_ttl, connection_limit, settings)"
            " VALUES ({}, {}, {}, {}, {}) ON CONFLICT (name) DO UPDATE SET"
            " version = excluded.version, max_ttl = excluded.max_ttl,"
            " connection_limit = excluded.connection_limit, settings = excluded.settings;\n"
        ).format(
            pack.name,
            manifest.version,
            parse_ttl(pack.max_ttl),
            pack.connection_limit,
            list(pack.settings),
        ),
    ]
    if major >= _SECOND_GRANTOR_MAJOR:
        parts += [
            sql.SQL("GRANT {} TO {} WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;\n").format(
                name, sql.Identifier(f"gk_owner_{shard:02}")
            )
            for shard in range(shards)
        ]
    return sql.Composed(parts).as_string(connection)


def _pack_sql(place: Path | Traversable, pack: Pack) -> str:
    """Read a pack's SQL, and try the names that stand in it."""
    try:
        text = (place / pack.file).read_text()
        text.format(schema="", database="", owner="")
    except OSError as error:
        msg = f"{place}/{pack.file}: {error.strerror}"
        raise InputError(msg) from error
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        msg = (
            f"{place}/{pack.file}: write {{schema}}, {{database}}, {{owner}}; other braces doubled"
        )
        raise InputError(msg) from error
    return text


def _pack_grants(
    text: str, database: str, setup: Setup, connection: psycopg.AsyncConnection
) -> str:
    """Fill in a pack's SQL for each schema and each owner of later tables."""
    filled = [
        text.format(
            schema=sql.Identifier(schema).as_string(connection),
            database=sql.Identifier(database).as_string(connection),
            owner=sql.Identifier(owner).as_string(connection),
        )
        for schema in setup.schemas
        for owner in setup.owners
    ]
    return "\n".join(filled)


async def _installed(admin: Secret, database: str) -> dict[str, str]:
    async with await _connect(admin, database) as connection:
        cursor = await connection.execute("SELECT to_regclass('gk.installed') IS NOT NULL")
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return {}
        cursor = await connection.execute("SELECT step, sha256 FROM gk.installed")
        return dict(await cursor.fetchall())


async def _connect(admin: Secret, database: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(
        make_conninfo(admin.reveal(), dbname=database), autocommit=True, connect_timeout=5
    )
