"""Checks a target as `gk_agent` sees it; each failure carries the statement that mends it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg.rows import dict_row

from gatekeeper.databases.adapters.postgresql.bootstrap import helpers_text
from gatekeeper.databases.model import Check, CheckStatus

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import AsyncConnection

OLDEST_MAJOR: Final = 14
FIRST_MAJOR_WITH_ADMIN_OPTION: Final = 16
MANY_LOGINS_PER_OWNER: Final = 500
"""From PostgreSQL 16 on, issuing slows with the live logins of one owner (ADR 0002)."""

MOST_CLOCK_OFFSET: Final = timedelta(seconds=5)
BOOTSTRAP: Final = "gk target bootstrap --database HOME --owner OWNER --apply"
BOOTSTRAP_ANEW: Final = "DELETE FROM gk.installed; -- then: " + BOOTSTRAP  # noqa: S608  # two literals

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
    coalesce(has_schema_privilege('public', to_regnamespace('gk'), 'USAGE'), false)
        AS public_helpers,
    pg_backend_pid() AS backend,
    clock_timestamp() AS target_now,
    current_setting('max_prepared_transactions')::int AS prepared,
    has_schema_privilege('public', 'public', 'CREATE') AS public_create,
    current_setting('log_statement') AS log_statement,
    current_setting('password_encryption') AS password_encryption,
    pg_is_in_recovery() AS standby
"""

_HELPERS: Final = """
SELECT p.oid::regprocedure::text AS helper, p.proname AS name, p.prosrc AS text,
    p.prosecdef AS definer,
    coalesce(array_to_string(p.proconfig, ',') ~ 'search_path=pg_catalog, pg_temp', false)
        AS pinned,
    (SELECT string_agg(CASE WHEN a.grantee = 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ')
        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE a.grantee <> p.proowner
        AND (a.grantee = 0 OR pg_get_userbyid(a.grantee) NOT IN ('gk_agent', 'gk_registry')))
        AS strangers,
    has_function_privilege('gk_agent', p.oid, 'EXECUTE') AS callable,
    r.rolcanlogin OR r.rolsuper AS strong_owner
FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
WHERE p.pronamespace = to_regnamespace('gk')
ORDER BY 1
"""

_CALLED: Final = frozenset(
    {
        "create_login", "disable_logins", "end_backends", "drop_logins", "remains", "databases_of",
        "shard_of", "pack_names", "extend_login", "list_logins",
    }
)  # fmt: skip
"""What the adapter calls."""

# Without a right to CONNECT a login cannot even ask; a temporary table blocks DROP ROLE.
_DATABASES: Final = """
SELECT datname AS database, quote_ident(datname) AS quoted FROM pg_database
WHERE datallowconn AND (has_database_privilege('public', oid, 'CONNECT')
    OR has_database_privilege('public', oid, 'TEMP')) ORDER BY 1
"""

_OWNERS: Final = """
SELECT rolname AS owner FROM pg_roles WHERE rolname ~ '^gk_owner_[0-9]{2}$'
AND (rolcanlogin OR rolsuper OR NOT rolcreaterole OR rolcreatedb OR rolreplication
    OR rolbypassrls)
"""

# What makes a member more than its name says: a pack through a role of the server, the
# agent through anything at all.
_MEMBERSHIPS: Final = """
SELECT quote_ident(m.rolname) AS member, quote_ident(g.rolname) AS given
FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
WHERE m.rolname = 'gk_agent'
OR (m.rolname = ANY(gk.pack_names()) AND (g.rolname ~ '^pg_' OR g.rolname ~ '^gk_'
    OR g.rolsuper OR g.rolcreaterole OR g.rolcreatedb OR g.rolreplication OR g.rolbypassrls))
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


async def examine(connection: AsyncConnection, *, now: datetime) -> tuple[Check, ...]:
    """Look at everything a target needs; `now` is the agent's clock."""
    seen = (await _rows(connection, _LOOK))[0]
    if not seen["has_schema"]:
        missing = Check(
            name="schema",
            status=FAILED,
            detail=f"schema gk is missing in database {seen['database']}",
            fix=BOOTSTRAP,
        )
        return (_version(seen), missing)
    helpers = await _rows(connection, _HELPERS)
    text = helpers_text(seen["major"], seen["owners"])
    checks = [
        _version(seen), _standby(seen), _agent(seen), _owners(seen), _logging(seen),
        _encryption(seen), _public_schema(seen), _schema(seen), _prepared(seen),
        _clock(seen["target_now"] - now), _pooler(seen["backend"], connection.info.backend_pid),
        *[_helper(row, text) for row in helpers], *_missing(helpers),
        *_signals((await _rows(connection, _SIGNAL))[0]),
        *[_strong(row) for row in await _rows(connection, _STRONG)],
        *[_owner(row) for row in await _rows(connection, _OWNERS)],
        *[_membership(row) for row in await _rows(connection, _MEMBERSHIPS)],
        *[_database(row) for row in await _rows(connection, _DATABASES)],
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
            fix=BOOTSTRAP,
        )  # fmt: skip
    full = seen["logins"] / seen["owners"]
    return Check(
        name="owners",
        status=OK if full < MANY_LOGINS_PER_OWNER else WARNING,
        detail=f"{seen['logins']} live logins over {seen['owners']} owners",
        fix=None if full < MANY_LOGINS_PER_OWNER else f"{BOOTSTRAP} --shards 64",
    )


def _logging(seen: Row) -> Check:
    """Only verifiers travel through the helpers; a holder who changes his own is careless."""
    if seen["log_statement"] != "none":
        return Check(
            name="log_statement", status=WARNING,
            detail=f"log_statement is {seen['log_statement']}: a password that a holder chooses"
            " for himself would stand in the server's log",
            fix="ALTER SYSTEM SET log_statement = 'none'; SELECT pg_reload_conf();",
        )  # fmt: skip
    return Check(name="log_statement", status=OK, detail="statements are not logged")


def _schema(seen: Row) -> Check:
    if seen["public_helpers"]:
        return Check(
            name="schema", status=FAILED, detail="everyone may look into schema gk",
            fix="REVOKE ALL ON SCHEMA gk FROM PUBLIC;",
        )  # fmt: skip
    return Check(name="schema", status=OK, detail="only the helpers' roles may use schema gk")


def _prepared(seen: Row) -> Check:
    if seen["prepared"]:
        return Check(
            name="prepared transactions", status=WARNING,
            detail="what a holder prepares outlives his connections, and keeps its locks:"
            " with one he can keep his own role from being switched off",
            fix="ALTER SYSTEM SET max_prepared_transactions = 0; -- then restart the server",
        )  # fmt: skip
    return Check(name="prepared transactions", status=OK, detail="switched off")


def _clock(offset: timedelta) -> Check:
    """Ends are the target's clock alone; evidence of both sides is easier to read on one."""
    if abs(offset) > MOST_CLOCK_OFFSET:
        return Check(
            name="clock", status=WARNING,
            detail=f"the target's clock is {offset.total_seconds():+.0f} s from the agent's",
            fix="set both clocks by NTP (timedatectl set-ntp true)",
        )  # fmt: skip
    return Check(name="clock", status=OK, detail="the target's clock agrees with the agent's")


def _pooler(backend: int, greeted_as: int) -> Check:
    """A pooler greets with a number of its own, and lends one backend to many."""
    if backend != greeted_as:
        return Check(
            name="pooler", status=WARNING,
            detail="a pooler stands before the server: it may let logins in whose time is over",
            fix="point the agent's DSN, and the target's host and port, at the server itself",
        )  # fmt: skip
    return Check(name="pooler", status=OK, detail="the server is reached without a pooler")


def _encryption(seen: Row) -> Check:
    if seen["password_encryption"] != "scram-sha-256":  # noqa: S105  # a setting's value
        return Check(
            name="password_encryption", status=WARNING,
            detail="passwords that holders choose themselves are stored as md5",
            fix="ALTER SYSTEM SET password_encryption = 'scram-sha-256'; SELECT pg_reload_conf();",
        )  # fmt: skip
    return Check(name="password_encryption", status=OK, detail="scram-sha-256")


def _database(row: Row) -> Check:
    return Check(
        name=f"database {row['database']}", status=WARNING,
        detail="every login may connect to it, or make temporary tables there",
        fix=f"REVOKE CONNECT, TEMP ON DATABASE {row['quoted']} FROM PUBLIC;",
    )  # fmt: skip


def _owner(row: Row) -> Check:
    return Check(
        name=f"owner {row['owner']}", status=FAILED,
        detail="an owner of helpers creates roles, cannot log in, and has no other attribute",
        fix=f"ALTER ROLE {row['owner']} NOLOGIN NOSUPERUSER CREATEROLE NOCREATEDB"
        " NOREPLICATION NOBYPASSRLS;",
    )  # fmt: skip


def _membership(row: Row) -> Check:
    return Check(
        name=f"membership {row['member']}", status=FAILED,
        detail=f"it has the rights of {row['given']}, which it must not have",
        fix=f"REVOKE {row['given']} FROM {row['member']};",
    )  # fmt: skip


def _public_schema(seen: Row) -> Check:
    if seen["public_create"]:
        return Check(
            name="public schema", status=WARNING, detail="everyone may create in schema public",
            fix="REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        )  # fmt: skip
    return Check(name="public schema", status=OK, detail="logins cannot create in it")


def _helper(row: Row, text: str) -> Check:
    name = f"helper {row['helper']}"
    if row["strangers"]:
        return Check(
            name=name, status=FAILED, detail=f"{row['strangers']} may call it",
            fix=f"REVOKE ALL ON FUNCTION {row['helper']} FROM {row['strangers']};",
        )  # fmt: skip
    if not row["pinned"]:
        return Check(
            name=name, status=FAILED, detail="its search_path is not fixed",
            fix=f"ALTER FUNCTION {row['helper']} SET search_path = pg_catalog, pg_temp;",
        )  # fmt: skip
    if row["definer"] and row["strong_owner"]:
        return Check(
            name=name, status=FAILED, detail="its owner can log in or is a superuser",
            fix=BOOTSTRAP_ANEW,
        )  # fmt: skip
    if f"$${row['text']}$$" not in text:
        return Check(
            name=name, status=FAILED, detail="its text is not that of this release",
            fix=BOOTSTRAP_ANEW,
        )  # fmt: skip
    if row["name"] in _CALLED and not row["callable"]:
        return Check(
            name=name, status=FAILED, detail="the agent may not call it",
            fix=f"GRANT EXECUTE ON FUNCTION {row['helper']} TO gk_agent;",
        )  # fmt: skip
    return Check(name=name, status=OK, detail="of this release, pinned, and not for everyone")


def _missing(helpers: list[Row]) -> list[Check]:
    return [
        Check(name=f"helper gk.{name}", status=FAILED, detail="it is missing", fix=BOOTSTRAP_ANEW)
        for name in sorted(_CALLED - {row["name"] for row in helpers})
    ]


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
