"""The tour of databases: a login that is gone at its TTL, and the proof of it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg

from gatekeeper.entrypoints.operate.sample import SAMPLE_DATABASE
from gatekeeper.entrypoints.operate.stack import Stack
from gatekeeper.entrypoints.operate.tours.telling import (
    Tour,
    TourError,
    must,
    report,
    say,
    scene,
)
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.processes.listening import free_port

if TYPE_CHECKING:
    from pathlib import Path

TTL_SECONDS: Final = 20
NOTICE_SECONDS: Final = 30.0
"""How long after the TTL the tour waits for what must have happened by then."""


async def tour_of_databases(home: Path) -> None:
    say("Gatekeeper: a database login that lives for seconds, and the proof that it is gone.\n")
    stack = Stack(home / "stack", port=free_port(), agent_port=free_port(), report=report)
    async with stack:
        tour = _Databases(home, stack)
        await tour.log_in(
            "dana", "Dana logs in. (The demo plays her browser and confirms the code.)"
        )
        session = await tour.create_session()
        holder = await tour.use_it(session)
        await tour.see_it_end(session, holder)
        await tour.verify_evidence()
        say("\nStopping everything.")


class _Databases(Tour):
    """Each method is one scene; commands are the ones a user would type."""

    async def create_session(self) -> dict[str, Any]:
        scene(f"She asks for a login that may read, for {TTL_SECONDS} seconds.")
        began = time.monotonic()
        text = await self.gk(
            "session",
            "create",
            "--target",
            "pg-local",
            "--role",
            "app_read",
            "--ttl",
            f"{TTL_SECONDS}s",
            "--reason",
            "debug",
            "--json",
        )
        session: dict[str, Any] = json.loads(text)
        session["began"] = began
        say(f"  session {session['sessionId']}, ready after {time.monotonic() - began:.2f} s")
        say(f"  login   {session['username']} (its password never left this machine's gk)")
        return session

    async def use_it(self, session: dict[str, Any]) -> psycopg.AsyncConnection[Any]:
        scene("The DSN works: it reads, and it cannot write.")
        holder = await psycopg.AsyncConnection.connect(session["dsn"], autocommit=True)
        await self._query(holder, "SELECT now()")
        await self._query(holder, "SELECT id, customer, total FROM orders ORDER BY id LIMIT 2")
        try:
            await holder.execute("DELETE FROM orders")
        except psycopg.errors.InsufficientPrivilege as error:
            say("  DELETE FROM orders")
            say(f"    refused by the database: {error.diag.message_primary}")
        else:
            must(condition=False, otherwise="a login that may only read could delete")
        return holder

    async def see_it_end(
        self, session: dict[str, Any], holder: psycopg.AsyncConnection[Any]
    ) -> None:
        scene("Her connection stays open. The TTL passes. Watch it die.")
        ended = await self._watch_it_die(holder, session["began"])
        after = time.monotonic() - session["began"]
        say(f"  {after:.1f} s after the request the server closed it:")
        say(f"    {ended}")
        await self._login_refused(session["dsn"])
        await self._role_gone(session["username"])
        text = await self.gk("session", "show", session["sessionId"], "--json")
        say(f"  Gatekeeper calls the session: {json.loads(text)['status']} (proven gone)")

    async def verify_evidence(self) -> None:
        await self.log_in(
            "olga", "Olga, an operator, checks afterwards that this is what happened."
        )
        export = self.home / "audit.jsonl"
        await self.gk("audit", "export", "--output", str(export))
        key = self.home / "gatekeeper.jwk"
        evidence_key = SigningKey.load(self.stack.home / "keys" / "evidence.jwk")
        key.write_text(evidence_key.public_jwk())
        with_key = ("--public-key", str(key))
        say("  (She has the public key already: it never comes with the evidence it is to prove.)")
        await self.gk("audit", "verify", "--export", str(export), *with_key, echo=True)
        say("\n  Now one byte of a copy is flipped:")
        copy = self.home / "copy.jsonl"
        line = _flip_one_byte(export, copy)
        say(f"    (in line {line} of the copy, inside an event about a session)")
        process = await self.start("audit", "verify", "--export", str(copy), *with_key)
        stdout, _stderr = await process.communicate()
        must(process.returncode == 1, "a touched copy was not noticed")
        say(f"    {stdout.decode().strip()}")

    async def _watch_it_die(self, holder: psycopg.AsyncConnection[Any], began: float) -> str:
        deadline = began + TTL_SECONDS + NOTICE_SECONDS
        bar = sys.stderr.isatty()
        while time.monotonic() < deadline:
            if bar:
                left = max(0.0, began + TTL_SECONDS - time.monotonic())
                sys.stderr.write(f"\r  {left:4.1f} s to live ")
                sys.stderr.flush()
            try:
                await holder.execute("SELECT 1")
            except psycopg.Error as error:
                if bar:
                    sys.stderr.write("\r" + " " * 24 + "\r")
                return str(error.diag.message_primary or error).strip().splitlines()[0]
            await asyncio.sleep(0.1)
        msg = "the connection outlived its TTL"
        raise TourError(msg)

    async def _login_refused(self, dsn: str) -> None:
        try:
            connection = await psycopg.AsyncConnection.connect(dsn)
        except psycopg.OperationalError as error:
            say(f"  a new connection: {_last_words(error)}")
            return
        await connection.close()
        msg = "the login still works after its TTL"
        raise TourError(msg)

    async def _role_gone(self, username: str) -> None:
        admin = self.stack.target.dsn(SAMPLE_DATABASE)
        async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
            deadline = time.monotonic() + NOTICE_SECONDS
            while time.monotonic() < deadline:
                cursor = await connection.execute(
                    "SELECT count(*) FROM pg_roles WHERE rolname = %s", (username,)
                )
                row = await cursor.fetchone()
                if row is not None and row[0] == 0:
                    say(f"  pg_roles: no role {username} any more")
                    return
                await asyncio.sleep(0.1)
        msg = "the role is still in the catalogue"
        raise TourError(msg)

    @staticmethod
    async def _query(connection: psycopg.AsyncConnection[Any], query: str) -> None:
        cursor = await connection.execute(query.encode())
        say(f"  {query}")
        for row in await cursor.fetchall():
            say("    " + "  ".join(str(value) for value in row))


def _flip_one_byte(export: Path, copy: Path) -> int:
    """Copy the export with one letter of one event changed; return the line's number."""
    lines = export.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if b"session.ready" in line)
    lines[number] = lines[number].replace(b"app_read", b"app_reaD", 1)
    copy.write_bytes(b"".join(lines))
    return number + 1


def _last_words(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[-1].rsplit("FATAL:", 1)[-1].strip()
