"""Checks a target as `gk_agent` sees it; each failure carries the statement that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString

from psycopg.rows import dict_row

from gatekeeper.databases.adapters.postgresql import checks
from gatekeeper.databases.adapters.postgresql.bootstrap import helpers_text

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import AsyncConnection

    from gatekeeper.databases.adapters.postgresql.checks import Row
    from gatekeeper.databases.model import Check

FIRST_MAJOR_WITH_ADMIN_OPTION: Final = 16

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

_RIGHTS: Final = """
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
    (seen,) = await _rows(connection, _LOOK)
    if not seen["has_schema"]:
        return (checks.version(seen), checks.no_schema(seen))
    helpers = await _rows(connection, _HELPERS)
    text = helpers_text(seen["major"], seen["owners"])
    (rights,) = await _rows(connection, _RIGHTS)
    found = [
        checks.version(seen),
        *checks.server(seen),
        checks.clock(seen["target_now"] - now),
        checks.pooler(seen["backend"], connection.info.backend_pid),
        *(checks.helper(row, text) for row in helpers),
        *checks.missing(helpers),
        *checks.rights(rights),
        *[checks.strong_pack(row) for row in await _rows(connection, _STRONG)],
        *[checks.odd_owner(row) for row in await _rows(connection, _OWNERS)],
        *[checks.membership(row) for row in await _rows(connection, _MEMBERSHIPS)],
        *[checks.open_database(row) for row in await _rows(connection, _DATABASES)],
    ]
    if seen["major"] >= FIRST_MAJOR_WITH_ADMIN_OPTION:
        found += [checks.pack_not_given(row) for row in await _rows(connection, _PACKS)]
    return tuple(found)


async def _rows(connection: AsyncConnection, query: LiteralString) -> list[Row]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query)
    return await cursor.fetchall()
