"""Checks a target as `gk_agent` sees it; each failure carries the statement that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import dict_row

from gatekeeper.databases.model import Check, CheckStatus

if TYPE_CHECKING:
    from psycopg import AsyncConnection

OLDEST_MAJOR: Final = 14
FIRST_MAJOR_WITH_ADMIN_OPTION: Final = 16
MANY_LOGINS_PER_OWNER: Final = 500
"""From PostgreSQL 16 on, issuing slows with the live logins of one owner (ADR 0002)."""

OK, WARNING, FAILED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED
Row = dict[str, Any]

_LOOK: Final = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_version') AS version,
    current_database() AS database,
    to_regnamespace('gk') IS NOT NULL AS has_schema,
    (SELECT count(*) FROM pg_roles WHERE rolname ~ '^gk_owner_[0-9]{2}$') AS owners,
    (SELECT count(*) FROM pg_roles WHERE rolname ~ '^gk_[a-z2-7]{20}$') AS logins,
    (SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
        FROM pg_roles WHERE rolname = current_user) AS powerful,
    has_database_privilege('public', current_database(), 'TEMP') AS public_temp,
    has_schema_privilege('public', 'public', 'CREATE') AS public_create,
    current_setting('log_statement') AS log_statement,
    current_setting('password_encryption') AS password_encryption,
    pg_is_in_recovery() AS standby
"""

_HELPERS: Final = """
SELECT p.oid::regprocedure::text AS helper, p.prosecdef AS definer,
    coalesce(array_to_string(p.proconfig, ',') ~ 'search_path=pg_catalog, pg_temp', false)
        AS pinned,
    has_function_privilege('public', p.oid, 'EXECUTE') AS public,
    r.rolcanlogin OR r.rolsuper AS strong_owner
FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
WHERE p.pronamespace = to_regnamespace('gk')
ORDER BY 1
"""

_PACKS: Final = """
SELECT r.rolname AS pack, o.rolname AS owner
FROM pg_roles r CROSS JOIN pg_roles o
WHERE r.rolname = ANY(gk.pack_names()) AND o.rolname ~ '^gk_owner_[0-9]{2}$'
AND NOT EXISTS (SELECT 1 FROM pg_auth_members m
    WHERE m.roleid = r.oid AND m.member = o.oid AND m.admin_option)
"""

_SIGNAL: Final = """
SELECT pg_has_role('gk_registry', 'pg_signal_backend', 'USAGE') AS may_end,
    pg_has_role('gk_registry', 'pg_read_all_stats', 'USAGE') AS may_see,
    has_column_privilege('gk_registry', 'pg_authid', 'rolpassword', 'SELECT') AS may_compare
"""

_STRONG: Final = """
SELECT rolname AS pack FROM pg_roles WHERE rolname = ANY(gk.pack_names())
AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR rolcanlogin)
"""


async def examine(connection: AsyncConnection) -> tuple[Check, ...]:
    """Look at everything a target needs."""
    seen = (await _rows(connection, _LOOK))[0]
    if not seen["has_schema"]:
        missing = Check(
            name="schema",
            status=FAILED,
            detail=f"schema gk is missing in database {seen['database']}",
            fix="gk target bootstrap --dsn ADMIN_DSN --apply",
        )
        return (_version(seen), missing)
    checks = [
        _version(seen), _standby(seen), _agent(seen), _owners(seen), _logging(seen),
        _encryption(seen), _temporary(seen), _public_schema(seen),
        *[_helper(row) for row in await _rows(connection, _HELPERS)],
        *_signals((await _rows(connection, _SIGNAL))[0]),
        *[_strong(row) for row in await _rows(connection, _STRONG)],
    ]  # fmt: skip
    if seen["major"] >= FIRST_MAJOR_WITH_ADMIN_OPTION:
        checks += [_no_admin(row) for row in await _rows(connection, _PACKS)]
    return tuple(checks)


def _version(seen: Row) -> Check:
    status = OK if seen["major"] >= OLDEST_MAJOR else FAILED
    return Check(
        name="version",
        status=status,
        detail=f"PostgreSQL {seen['version']}; {OLDEST_MAJOR} or newer is needed",
    )


def _standby(seen: Row) -> Check:
    if seen["standby"]:
        return Check(
            name="writer", status=FAILED, detail="this is a standby, where no login can be made",
            fix="point the agent's DSN at the primary (target_session_attrs=read-write)",
        )  # fmt: skip
    return Check(name="writer", status=OK, detail="the server takes writes")


def _agent(seen: Row) -> Check:
    if seen["powerful"]:
        return Check(
            name="agent", status=FAILED, detail="the agent's login has attributes it must not have",
            fix="ALTER ROLE gk_agent NOSUPERUSER NOCREATEROLE NOCREATEDB"
            " NOREPLICATION NOBYPASSRLS;",
        )  # fmt: skip
    return Check(name="agent", status=OK, detail="the agent's login can call the helpers, no more")


def _owners(seen: Row) -> Check:
    if not seen["owners"]:
        return Check(
            name="owners", status=FAILED, detail="there is no role gk_owner_NN",
            fix="gk target bootstrap --dsn ADMIN_DSN --apply",
        )  # fmt: skip
    full = seen["logins"] / seen["owners"]
    return Check(
        name="owners",
        status=OK if full < MANY_LOGINS_PER_OWNER else WARNING,
        detail=f"{seen['logins']} live logins over {seen['owners']} owners",
        fix=None
        if full < MANY_LOGINS_PER_OWNER
        else "gk target bootstrap --dsn ADMIN_DSN --shards 64 --apply",
    )


def _logging(seen: Row) -> Check:
    return Check(
        name="log_statement", status=OK,
        detail=f"log_statement is {seen['log_statement']}; only verifiers can reach a log",
    )  # fmt: skip


def _encryption(seen: Row) -> Check:
    if seen["password_encryption"] != "scram-sha-256":  # noqa: S105  # a setting's value
        return Check(
            name="password_encryption", status=WARNING,
            detail="passwords that holders choose themselves are stored as md5",
            fix="ALTER SYSTEM SET password_encryption = 'scram-sha-256'; SELECT pg_reload_conf();",
        )  # fmt: skip
    return Check(name="password_encryption", status=OK, detail="scram-sha-256")


def _temporary(seen: Row) -> Check:
    if seen["public_temp"]:
        return Check(
            name="temp", status=WARNING, detail="everyone may make temporary tables here",
            fix=f'REVOKE TEMP ON DATABASE "{seen["database"]}" FROM PUBLIC;',
        )  # fmt: skip
    return Check(name="temp", status=OK, detail="logins cannot make temporary tables")


def _public_schema(seen: Row) -> Check:
    if seen["public_create"]:
        return Check(
            name="public schema", status=WARNING, detail="everyone may create in schema public",
            fix="REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        )  # fmt: skip
    return Check(name="public schema", status=OK, detail="logins cannot create in it")


def _helper(row: Row) -> Check:
    name = f"helper {row['helper']}"
    if row["public"]:
        return Check(
            name=name, status=FAILED, detail="everyone may call it",
            fix=f"REVOKE ALL ON FUNCTION {row['helper']} FROM PUBLIC;",
        )  # fmt: skip
    if not row["pinned"]:
        return Check(
            name=name, status=FAILED, detail="its search_path is not fixed",
            fix=f"ALTER FUNCTION {row['helper']} SET search_path = pg_catalog, pg_temp;",
        )  # fmt: skip
    if row["definer"] and row["strong_owner"]:
        return Check(
            name=name, status=FAILED, detail="its owner can log in or is a superuser",
            fix="gk target bootstrap --dsn ADMIN_DSN --apply",
        )  # fmt: skip
    return Check(name=name, status=OK, detail="pinned, and not for everyone")


def _signals(row: Row) -> list[Check]:
    return [
        _granted(
            "end backends", granted=row["may_end"], status=FAILED,
            fix="GRANT pg_signal_backend TO gk_registry;",
        ),
        _granted(
            "see backends", granted=row["may_see"], status=FAILED,
            fix="GRANT pg_read_all_stats TO gk_registry;",
        ),
        _granted(
            "notice changed passwords", granted=row["may_compare"], status=WARNING,
            fix="GRANT SELECT (oid, rolname, rolpassword) ON pg_authid TO gk_registry;",
        ),
    ]  # fmt: skip


def _granted(name: str, *, granted: bool, status: CheckStatus, fix: str) -> Check:
    if granted:
        return Check(name=name, status=OK, detail="granted")
    return Check(name=name, status=status, detail="the helpers lack the right to", fix=fix)


def _strong(row: Row) -> Check:
    return Check(
        name=f"pack {row['pack']}", status=FAILED,
        detail="a role pack must be a plain role that cannot log in",
        fix=f'ALTER ROLE "{row["pack"]}" NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB'
        " NOREPLICATION NOBYPASSRLS;",
    )  # fmt: skip


def _no_admin(row: Row) -> Check:
    return Check(
        name=f"pack {row['pack']} for {row['owner']}", status=FAILED,
        detail="the owner cannot give the pack to a login",
        fix=f'GRANT "{row["pack"]}" TO {row["owner"]} WITH ADMIN OPTION;',
    )  # fmt: skip


async def _rows(connection: AsyncConnection, query: LiteralString) -> list[Row]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query)
    return await cursor.fetchall()
