"""Our schema, brought up to date: plain SQL files, each in a transaction, once.

`NNNN_pre_*.sql` may run before the code that needs it, `NNNN_post_*.sql` only after.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

import psycopg

from gatekeeper.kernel.errors import IntegrityError

if TYPE_CHECKING:
    from gatekeeper.kernel.secret import Secret

_LOCK: Final = 0x67617465
"""The advisory lock that lets one process migrate at a time ("gate" in ASCII)."""

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
    name: str
    sql: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()


def shipped() -> tuple[Migration, ...]:
    """Return the migrations of this release, in their order."""
    folder = resources.files("gatekeeper.platform.postgres") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return tuple(Migration(file.name.removesuffix(".sql"), file.read_bytes()) for file in files)


async def migrate(dsn: Secret) -> tuple[str, ...]:
    """Apply what is missing; return its names. Twice in a row, the second does nothing.

    Raises `IntegrityError` for a database that a newer release migrated, and for a
    migration whose file changed after it was applied.
    """
    async with await psycopg.AsyncConnection.connect(dsn.reveal(), autocommit=True) as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        await connection.execute(_TABLE)
        applied = await _applied(connection)
        missing = [m for m in shipped() if m.name not in applied]
        for migration in missing:
            await _apply(connection, migration)
    return tuple(migration.name for migration in missing)


async def _applied(connection: psycopg.AsyncConnection) -> dict[str, str]:
    cursor = await connection.execute("SELECT name, sha256 FROM gatekeeper.migration")
    applied = dict(await cursor.fetchall())
    known = {migration.name: migration.sha256 for migration in shipped()}
    for name, sha256 in applied.items():
        if name not in known:
            msg = f"the database has migration {name}, which this release does not know: upgrade"
            raise IntegrityError(msg)
        if known[name] != sha256:
            msg = f"migration {name} was applied with other contents than this release ships"
            raise IntegrityError(msg)
    return applied


async def _apply(connection: psycopg.AsyncConnection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO gatekeeper.migration (name, sha256) VALUES (%s, %s)",
            (migration.name, migration.sha256),
        )
