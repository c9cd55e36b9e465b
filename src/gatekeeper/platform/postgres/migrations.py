"""Our schema, brought up to date: plain SQL files, each in a transaction, once.

`NNNN_pre_*.sql` may run before the code that needs it, `NNNN_post_*.sql` only after.
A file that was applied is never changed: the next one repairs it.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.types.json import Jsonb

from gatekeeper.kernel.audit import Actor, AuditEvent, AuditKind
from gatekeeper.kernel.errors import InputError, IntegrityError, UnavailableError
from gatekeeper.platform.postgres.pool import readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from importlib.resources.abc import Traversable

    from gatekeeper.kernel.secret import Secret

_LOCK: Final = 0x67617465
"""The advisory lock that lets one process migrate at a time ("gate" in ASCII)."""

CONNECT_SECONDS: Final = 10
LOCK_TIMEOUT: Final = "60s"
"""How long to wait for another process that migrates, or for a table that is in use."""

_FILE: Final = re.compile(r"\d{4}_(pre|post)_[a-z0-9_]+\.sql", re.ASCII)
_FOLDER: Final = resources.files("gatekeeper.platform.postgres") / "migrations"

_TABLE: Final = """
CREATE SCHEMA IF NOT EXISTS gatekeeper;
CREATE TABLE IF NOT EXISTS gatekeeper.migration (
    name       text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name without `.sql`, and its bytes."""

    name: str
    sql: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()


def shipped(folder: Traversable = _FOLDER) -> tuple[Migration, ...]:
    """Return the migrations of this release, in their order.

    Raises `IntegrityError` for a file name of another shape, or a number used twice.
    """
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    for before, file in zip((None, *files), files, strict=False):
        if _FILE.fullmatch(file.name) is None:
            msg = f"{file.name}: a migration is named NNNN_pre_words.sql or NNNN_post_words.sql"
            raise IntegrityError(msg)
        if before is not None and before.name[:4] == file.name[:4]:
            msg = f"{before.name} and {file.name}: two migrations have the same number"
            raise IntegrityError(msg)
    return tuple(Migration(file.name.removesuffix(".sql"), file.read_bytes()) for file in files)


def missing(migrations: tuple[Migration, ...], applied: Mapping[str, str]) -> tuple[Migration, ...]:
    """Return what is to be applied, given the name and SHA-256 of what was.

    Raises `IntegrityError` unless what was applied is how `migrations` begins: a newer
    release was here, a file was changed afterwards, or one was slipped in before.
    """
    known = {migration.name: migration.sha256 for migration in migrations}
    for name, sha256 in sorted(applied.items()):
        if name not in known:
            msg = f"the database has migration {name}, which this release does not know: upgrade"
            raise IntegrityError(msg)
        if known[name] != sha256:
            msg = f"migration {name} was applied with other contents than this release ships"
            raise IntegrityError(msg)
    rest = tuple(migration for migration in migrations if migration.name not in applied)
    if applied and rest and rest[0].name < max(applied):
        msg = f"migration {rest[0].name} is numbered before {max(applied)}, which was applied"
        raise IntegrityError(msg)
    return rest


async def migrate(
    dsn: Secret, *, migrations: tuple[Migration, ...] | None = None
) -> tuple[str, ...]:
    """Apply what is missing; return its names. Twice in a row, the second does nothing.

    Raises `IntegrityError` for a database that does not fit this release (see `missing`)
    and for a migration that fails; those before it stay applied. Raises
    `UnavailableError` when the database, or a lock in it, is not to be had.
    """
    async with _connected(dsn) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        await connection.execute(_TABLE)
        todo = missing(shipped() if migrations is None else migrations, await _applied(connection))
        for migration in todo:
            await _apply(connection, migration)
    return tuple(migration.name for migration in todo)


async def pending(dsn: Secret) -> tuple[str, ...]:
    """Return the names `migrate` would apply; changes nothing, raises what it would raise."""
    async with _connected(dsn) as connection:
        return tuple(m.name for m in missing(shipped(), await _applied(connection)))


@asynccontextmanager
async def _connected(dsn: Secret) -> AsyncIterator[psycopg.AsyncConnection]:
    """Connect for migrating; closing the connection gives the advisory lock back."""
    try:
        async with await psycopg.AsyncConnection.connect(
            readable(dsn),
            autocommit=True,
            application_name="gatekeeper-migrate",
            connect_timeout=CONNECT_SECONDS,
        ) as connection:
            await connection.execute(
                "SELECT set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,)
            )
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        msg = "this login does not own the store's tables: migrating is for the one that does"
        raise InputError(msg) from error
    except psycopg.OperationalError as error:
        msg = f"the database cannot be migrated now ({type(error).__name__})"
        raise UnavailableError(msg) from error


async def _applied(connection: psycopg.AsyncConnection) -> dict[str, str]:
    """Return name and SHA-256 of every applied migration."""
    cursor = await connection.execute("SELECT to_regclass('gatekeeper.migration') IS NOT NULL")
    if await cursor.fetchone() != (True,):
        return {}
    cursor = await connection.execute("SELECT name, sha256 FROM gatekeeper.migration")
    return dict(await cursor.fetchall())


async def _tell(connection: psycopg.AsyncConnection, migration: Migration) -> None:
    """Leave an event of a change of the store, from the migration on that makes its outbox."""
    cursor = await connection.execute(
        "SELECT clock_timestamp(), session_user WHERE to_regclass('gatekeeper.audit_outbox')"
        " IS NOT NULL"
    )
    if (found := await cursor.fetchone()) is None:
        return
    at, login = found
    event = AuditEvent(
        kind=AuditKind.STORE_MIGRATED,
        at=at,
        actor=Actor(kind="system", key=f"postgresql:{login}"),
        plane="kernel",
        correlation_id=migration.name,
        data={"migration": migration.name, "sha256": migration.sha256},
    )
    await connection.execute(
        "INSERT INTO gatekeeper.audit_outbox (event) VALUES (%s)", (Jsonb(event.fields()),)
    )


async def _apply(connection: psycopg.AsyncConnection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO gatekeeper.migration (name, sha256) VALUES (%s, %s)",
                (migration.name, migration.sha256),
            )
            await _tell(connection, migration)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        msg = f"migration {migration.name} failed: {error.sqlstate} {error.diag.message_primary}"
        raise IntegrityError(msg) from error
