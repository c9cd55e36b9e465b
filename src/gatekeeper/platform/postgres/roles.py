"""The logins that control planes and gateways work with: members of roles that own nothing."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from gatekeeper.kernel import scram
from gatekeeper.kernel.errors import InputError, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.pool import CONNECT_SECONDS, readable

if TYPE_CHECKING:
    from psycopg import AsyncConnection

APPLICATION: Final = "gatekeeper_app"
GATEWAY: Final = "gatekeeper_gateway"

# A superuser may always; an owner and whoever can become one may take the triggers away.
_PROTECTED: Final = """
SELECT NOT EXISTS (
    SELECT FROM pg_class c
    WHERE c.oid IN ('gatekeeper.audit_event'::regclass, 'gatekeeper.audit_checkpoint'::regclass)
      AND (has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
           OR pg_has_role(c.relowner, 'MEMBER')))
"""


async def evidence_is_protected(connection: AsyncConnection) -> bool:
    """Tell whether the role we work as can only add to the evidence."""
    row = await (await connection.execute(_PROTECTED)).fetchone()
    return row is not None and bool(row[0])


async def allow_login(owner: Secret, application: Secret, member_of: str = APPLICATION) -> None:
    """Make the login that a DSN names work, as a member of this role; twice is a no-op.

    The password is sent as its verifier. Raises `InputError` when both DSNs name the same
    login, or when the owner may not make roles and nobody else has made this one.
    """
    wanted, ours = (conninfo_to_dict(readable(dsn)) for dsn in (application, owner))
    login = wanted.get("user")
    password = str(wanted.get("password") or "")
    if not password.isascii():
        msg = "store_dsn: the password must be plain ASCII"
        raise InputError(msg)
    if not login or login == ours.get("user"):
        msg = "store_dsn: expected a login of its own, not the one that owns the tables"
        raise InputError(msg)
    try:
        async with await psycopg.AsyncConnection.connect(
            owner.reveal(), connect_timeout=CONNECT_SECONDS
        ) as connection:
            if not await _made(connection, str(login), Secret(password), member_of):
                msg = (
                    f"the owner may not make roles; an administrator has to:"
                    f" CREATE ROLE {login} LOGIN PASSWORD '...' IN ROLE {member_of}"
                )
                raise InputError(msg)
    except psycopg.OperationalError as error:
        msg = f"the store does not answer ({type(error).__name__})"
        raise UnavailableError(msg) from error


async def _made(connection: AsyncConnection, login: str, password: Secret, member_of: str) -> bool:
    """Make the login, or find that an administrator did; False when neither."""
    try:
        async with connection.transaction():
            await _make(connection, login, password, member_of)
    except psycopg.errors.InsufficientPrivilege:
        cursor = await connection.execute(
            "SELECT FROM pg_roles WHERE rolname = %s AND rolcanlogin"
            " AND pg_has_role(oid, %s, 'MEMBER')",
            (login, member_of),
        )
        return await cursor.fetchone() is not None
    return True


async def _make(connection: AsyncConnection, login: str, password: Secret, member_of: str) -> None:
    name = sql.Identifier(login)
    cursor = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,))
    if await cursor.fetchone() is None:
        await connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    if password.reveal():
        verifier = scram.make_verifier(password, secrets.token_bytes(scram.SALT_BYTES))
        await connection.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(verifier))
        )
    await connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(member_of), name))
