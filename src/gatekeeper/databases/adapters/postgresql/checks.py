"""What the doctor says of what it saw: rules over rows of the catalogue. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.databases.model import Check, CheckStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OLDEST_MAJOR: Final = 14
MANY_LOGINS_PER_OWNER: Final = 500
"""From PostgreSQL 16 on, issuing slows with the live logins of one owner (ADR 0002)."""
MOST_CLOCK_OFFSET: Final = timedelta(seconds=5)
BOOTSTRAP: Final = "gk target bootstrap --database HOME --owner OWNER --apply"
BOOTSTRAP_ANEW: Final = "DELETE FROM gk.installed; -- then: " + BOOTSTRAP  # noqa: S608  # two literals

CALLED: Final = frozenset(
    {
        "create_login", "disable_logins", "end_backends", "drop_logins", "remains", "databases_of",
        "shard_of", "pack_names", "extend_login", "list_logins",
    }
)  # fmt: skip
"""Helpers that the adapter calls."""

Row = dict[str, Any]

OK, WARNING, FAILED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED


def _expect(
    name: str,
    *,
    holds: bool,
    well: str,
    otherwise: str,
    fix: str,
    status: CheckStatus = FAILED,
) -> Check:
    """Say of one thing that it is well, or else what is wrong with it and what mends it."""
    if holds:
        return Check(name=name, status=OK, detail=well)
    return Check(name=name, status=status, detail=otherwise, fix=fix)


def version(seen: Row) -> Check:
    return Check(
        name="version",
        status=OK if seen["major"] >= OLDEST_MAJOR else FAILED,
        detail=f"PostgreSQL {seen['version']}; {OLDEST_MAJOR} or newer is needed",
    )


def no_schema(seen: Row) -> Check:
    return Check(
        name="schema",
        status=FAILED,
        detail=f"schema gk is missing in database {seen['database']}",
        fix=BOOTSTRAP,
    )


def server(seen: Row) -> Iterator[Check]:
    """Judge what one look at the server showed."""
    yield _expect(
        "writer",
        holds=not seen["standby"],
        well="the server takes writes",
        otherwise="this is a standby, where no login can be made",
        fix="point the agent's DSN at the primary (target_session_attrs=read-write)",
    )
    yield _expect(
        "agent",
        holds=not seen["powerful"],
        well="the agent's login can call the helpers, no more",
        otherwise="the agent's login has attributes it must not have",
        fix="ALTER ROLE gk_agent NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;",
    )
    yield _owners(seen)
    # Only verifiers travel through the helpers; a holder who changes his own is careless.
    yield _expect(
        "log_statement",
        holds=seen["log_statement"] == "none",
        well="statements are not logged",
        otherwise=f"log_statement is {seen['log_statement']}: a password that a holder chooses"
        " for himself would stand in the server's log",
        fix="ALTER SYSTEM SET log_statement = 'none'; SELECT pg_reload_conf();",
        status=WARNING,
    )
    yield _expect(
        "password_encryption",
        holds=seen["password_encryption"] == "scram-sha-256",  # noqa: S105  # a setting
        well="scram-sha-256",
        otherwise="passwords that holders choose themselves are stored as md5",
        fix="ALTER SYSTEM SET password_encryption = 'scram-sha-256'; SELECT pg_reload_conf();",
        status=WARNING,
    )
    yield _expect(
        "public schema",
        holds=not seen["public_create"],
        well="logins cannot create in it",
        otherwise="everyone may create in schema public",
        fix="REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        status=WARNING,
    )
    yield _expect(
        "schema",
        holds=not seen["public_helpers"],
        well="only the helpers' roles may use schema gk",
        otherwise="everyone may look into schema gk",
        fix="REVOKE ALL ON SCHEMA gk FROM PUBLIC;",
    )
    yield _expect(
        "prepared transactions",
        holds=not seen["prepared"],
        well="switched off",
        otherwise="what a holder prepares outlives his connections, and keeps its locks:"
        " with one he can keep his own role from being switched off",
        fix="ALTER SYSTEM SET max_prepared_transactions = 0; -- then restart the server",
        status=WARNING,
    )


def _owners(seen: Row) -> Check:
    if not seen["owners"]:
        return Check(
            name="owners", status=FAILED, detail="there is no role gk_owner_NN", fix=BOOTSTRAP
        )
    crowded = seen["logins"] / seen["owners"] >= MANY_LOGINS_PER_OWNER
    return Check(
        name="owners",
        status=WARNING if crowded else OK,
        detail=f"{seen['logins']} live logins over {seen['owners']} owners",
        fix=f"{BOOTSTRAP} --shards 64" if crowded else None,
    )


def clock(offset: timedelta) -> Check:
    """Ends are the target's clock alone; evidence of both sides is easier to read on one."""
    return _expect(
        "clock",
        holds=abs(offset) <= MOST_CLOCK_OFFSET,
        well="the target's clock agrees with the agent's",
        otherwise=f"the target's clock is {offset.total_seconds():+.0f} s from the agent's",
        fix="set both clocks by NTP (timedatectl set-ntp true)",
        status=WARNING,
    )


def pooler(backend: int, greeted_as: int) -> Check:
    """A pooler greets with a number of its own, and lends one backend to many."""
    return _expect(
        "pooler",
        holds=backend == greeted_as,
        well="the server is reached without a pooler",
        otherwise="a pooler stands before the server: it may let logins in whose time is over",
        fix="point the agent's DSN, and the target's host and port, at the server itself",
        status=WARNING,
    )


def rights(row: Row) -> Iterator[Check]:
    """Judge what the helpers need of the server itself."""
    for name, granted, status, fix in (
        ("end backends", row["may_end"], FAILED, "GRANT pg_signal_backend TO gk_registry;"),
        ("see backends", row["may_see"], FAILED, "GRANT pg_read_all_stats TO gk_registry;"),
        (
            "notice changed passwords",
            row["may_compare"],
            WARNING,
            "GRANT SELECT (oid, rolname, rolpassword) ON pg_authid TO gk_registry;",
        ),
    ):
        yield _expect(
            name,
            holds=granted,
            well="granted",
            otherwise="the helpers lack the right to",
            fix=fix,
            status=status,
        )


def helper(row: Row, text: str) -> Check:
    """Judge one helper; `text` holds what this release installs."""
    called = row["helper"]
    wrong = (
        (
            row["strangers"],
            f"{row['strangers']} may call it",
            f"REVOKE ALL ON FUNCTION {called} FROM {row['strangers']};",
        ),
        (
            not row["pinned"],
            "its search_path is not fixed",
            f"ALTER FUNCTION {called} SET search_path = pg_catalog, pg_temp;",
        ),
        (
            row["definer"] and row["strong_owner"],
            "its owner can log in or is a superuser",
            BOOTSTRAP_ANEW,
        ),
        (
            f"$${row['text']}$$" not in text,
            "its text is not that of this release",
            BOOTSTRAP_ANEW,
        ),
        (
            row["name"] in CALLED and not row["callable"],
            "the agent may not call it",
            f"GRANT EXECUTE ON FUNCTION {called} TO gk_agent;",
        ),
    )
    for holds, detail, fix in wrong:
        if holds:
            return Check(name=f"helper {called}", status=FAILED, detail=detail, fix=fix)
    return Check(
        name=f"helper {called}", status=OK, detail="of this release, pinned, and not for everyone"
    )


def missing(helpers: Sequence[Row]) -> Iterator[Check]:
    for name in sorted(CALLED - {row["name"] for row in helpers}):
        yield Check(
            name=f"helper gk.{name}", status=FAILED, detail="it is missing", fix=BOOTSTRAP_ANEW
        )


def strong_pack(row: Row) -> Check:
    return Check(
        name=f"pack {row['pack']}",
        status=FAILED,
        detail="a role pack must be a plain role that cannot log in",
        fix=f'ALTER ROLE "{row["pack"]}" NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB'
        " NOREPLICATION NOBYPASSRLS;",
    )


def odd_owner(row: Row) -> Check:
    return Check(
        name=f"owner {row['owner']}",
        status=FAILED,
        detail="an owner of helpers creates roles, cannot log in, and has no other attribute",
        fix=f"ALTER ROLE {row['owner']} NOLOGIN NOSUPERUSER CREATEROLE NOCREATEDB"
        " NOREPLICATION NOBYPASSRLS;",
    )


def membership(row: Row) -> Check:
    return Check(
        name=f"membership {row['member']}",
        status=FAILED,
        detail=f"it has the rights of {row['given']}, which it must not have",
        fix=f"REVOKE {row['given']} FROM {row['member']};",
    )


def open_database(row: Row) -> Check:
    return Check(
        name=f"database {row['database']}",
        status=WARNING,
        detail="every login may connect to it, or make temporary tables there",
        fix=f"REVOKE CONNECT, TEMP ON DATABASE {row['quoted']} FROM PUBLIC;",
    )


def pack_not_given(row: Row) -> Check:
    return Check(
        name=f"pack {row['pack']} for {row['owner']}",
        status=FAILED,
        detail="the owner cannot give the pack to a login",
        fix=f'GRANT "{row["pack"]}" TO {row["owner"]} WITH ADMIN OPTION;',
    )
