"""`gk demo`: the tour of the main job, on a real database, told in plain words."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import psycopg
import typer

from gatekeeper.entrypoints.cli.caller import explaining
from gatekeeper.entrypoints.operate.sample import SAMPLE_DATABASE
from gatekeeper.entrypoints.operate.stack import Stack
from gatekeeper.platform.crypto.signing import SigningKey

TTL_SECONDS: Final = 20
FOLDER: Final = ".demo"
NOTICE_SECONDS: Final = 30.0
"""How long after the TTL the tour waits for what must have happened by then."""


class TourError(Exception):
    """Something was not as it must be: the tour stops and says what."""


def demo(
    home: Annotated[
        Path, typer.Option(help="Folder for everything the demo makes; removed at the end.")
    ] = Path(FOLDER),
) -> None:
    """Show the main job: a database login that is gone at its TTL, and the proof of it.

    Needs nothing but this package. Takes about half a minute, most of it waiting for
    the TTL to pass; leaves no process and no file behind.

    Example:  gk demo
    """
    with explaining():
        raise typer.Exit(asyncio.run(_run(home.absolute())))


async def _run(home: Path) -> int:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)  # type: ignore[union-attr]
    began = time.monotonic()
    _make_room(home)
    try:
        await _tour(home)
    except TourError as error:
        _say(f"\nThe tour stopped: {error}")
        return 1
    except asyncio.CancelledError:
        _say("\nInterrupted: everything was stopped and removed.")
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)
    _say(f"\nDone in {time.monotonic() - began:.0f} s. No process and no file was left behind.")
    _say("To work with it: `make up` (or `gk up`) runs the same stack until Ctrl-C.")
    return 0


def _make_room(home: Path) -> None:
    """Take away what a demo that was killed left here; refuse a folder that is not a demo's."""
    marker = home / ".gatekeeper-demo"
    if home.exists() and any(home.iterdir()) and not marker.exists():
        _say(f"{home} exists and is no demo folder; choose another with --home")
        raise typer.Exit(2)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.touch()


async def _tour(home: Path) -> None:
    _say("Gatekeeper: a database login that lives for seconds, and the proof that it is gone.\n")
    stack = Stack(home / "stack", port=_free_port(), agent_port=_free_port(), report=_report)
    async with stack:
        tour = _Tour(home, stack)
        await tour.log_in(
            "dana", "Dana logs in. (The demo plays her browser and confirms the code.)"
        )
        session = await tour.create_session()
        holder = await tour.use_it(session)
        await tour.see_it_end(session, holder)
        await tour.verify_evidence()
        _say("\nStopping everything.")


class _Tour:
    """Each method is one scene; commands are the ones a user would type."""

    def __init__(self, home: Path, stack: Stack) -> None:
        self._home = home
        self._stack = stack
        self._environment = {**os.environ, "GATEKEEPER_SERVER": stack.url, "NO_COLOR": "1"}

    async def log_in(self, name: str, title: str) -> None:
        _scene(title)
        self._environment["GATEKEEPER_HOME"] = str(self._home / name)
        process = await self._start("login", "--device")
        await self._approve(process, name)
        _stdout, said = await process.communicate()
        _must(process.returncode == 0, said.decode().strip() or "gk login failed")
        _say(f"    {said.decode().strip().splitlines()[-1]}")

    async def create_session(self) -> dict[str, Any]:
        _scene(f"She asks for a login that may read, for {TTL_SECONDS} seconds.")
        began = time.monotonic()
        text = await self._gk(
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
        _say(f"  session {session['sessionId']}, ready after {time.monotonic() - began:.2f} s")
        _say(f"  login   {session['username']} (its password never left this machine's gk)")
        return session

    async def use_it(self, session: dict[str, Any]) -> psycopg.AsyncConnection[Any]:
        _scene("The DSN works: it reads, and it cannot write.")
        holder = await psycopg.AsyncConnection.connect(session["dsn"], autocommit=True)
        await self._query(holder, "SELECT now()")
        await self._query(holder, "SELECT id, customer, total FROM orders ORDER BY id LIMIT 2")
        try:
            await holder.execute("DELETE FROM orders")
        except psycopg.errors.InsufficientPrivilege as error:
            _say("  DELETE FROM orders")
            _say(f"    refused by the database: {error.diag.message_primary}")
        else:
            _must(condition=False, otherwise="a login that may only read could delete")
        return holder

    async def see_it_end(
        self, session: dict[str, Any], holder: psycopg.AsyncConnection[Any]
    ) -> None:
        _scene("Her connection stays open. The TTL passes. Watch it die.")
        ended = await self._watch_it_die(holder, session["began"])
        after = time.monotonic() - session["began"]
        _say(f"  {after:.1f} s after the request the server closed it:")
        _say(f"    {ended}")
        await self._login_refused(session["dsn"])
        await self._role_gone(session["username"])
        text = await self._gk("session", "show", session["sessionId"], "--json")
        _say(f"  Gatekeeper calls the session: {json.loads(text)['status']} (proven gone)")

    async def verify_evidence(self) -> None:
        await self.log_in(
            "olga", "Olga, an operator, checks afterwards that this is what happened."
        )
        export = self._home / "audit.jsonl"
        await self._gk("audit", "export", "--output", str(export))
        key = self._home / "gatekeeper.jwk"
        evidence_key = SigningKey.load(self._stack.home / "keys" / "evidence.jwk")
        key.write_text(evidence_key.public_jwk())
        with_key = ("--public-key", str(key))
        _say("  (She has the public key already: it never comes with the evidence it is to prove.)")
        await self._gk("audit", "verify", "--export", str(export), *with_key, echo=True)
        _say("\n  Now one byte of a copy is flipped:")
        copy = self._home / "copy.jsonl"
        line = _flip_one_byte(export, copy)
        _say(f"    (in line {line} of the copy, inside an event about a session)")
        process = await self._start("audit", "verify", "--export", str(copy), *with_key)
        stdout, _stderr = await process.communicate()
        _must(process.returncode == 1, "a touched copy was not noticed")
        _say(f"    {stdout.decode().strip()}")

    async def _approve(self, process: asyncio.subprocess.Process, name: str) -> None:
        """Read the URL that gk shows, and confirm it the way a browser would."""
        url = await _first_url(process)
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as browser:
            await browser.get(url)
            code = dict(httpx.URL(url).params)["user_code"]
            answer = await browser.post(
                url.split("?")[0], data={"user_code": code, "user": name, "action": "approve"}
            )
            _must(answer.status_code == httpx.codes.OK, "the issuer did not take the approval")

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
            _say(f"  a new connection: {_last_words(error)}")
            return
        await connection.close()
        msg = "the login still works after its TTL"
        raise TourError(msg)

    async def _role_gone(self, username: str) -> None:
        admin = self._stack.target.dsn(SAMPLE_DATABASE)
        async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
            deadline = time.monotonic() + NOTICE_SECONDS
            while time.monotonic() < deadline:
                cursor = await connection.execute(
                    "SELECT count(*) FROM pg_roles WHERE rolname = %s", (username,)
                )
                row = await cursor.fetchone()
                if row is not None and row[0] == 0:
                    _say(f"  pg_roles: no role {username} any more")
                    return
                await asyncio.sleep(0.1)
        msg = "the role is still in the catalogue"
        raise TourError(msg)

    @staticmethod
    async def _query(connection: psycopg.AsyncConnection[Any], query: str) -> None:
        cursor = await connection.execute(query.encode())
        _say(f"  {query}")
        for row in await cursor.fetchall():
            _say("    " + "  ".join(str(value) for value in row))

    async def _gk(self, *arguments: str, echo: bool = False) -> str:
        process = await self._start(*arguments)
        stdout, stderr = await process.communicate()
        if process.returncode != 0:
            raise TourError(stderr.decode().strip() or f"gk {arguments[0]} failed")
        text = stdout.decode()
        if echo:
            for line in (text + stderr.decode()).strip().splitlines():
                _say(f"    {line}")
        return text

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        _say(f"  $ gk {' '.join(_shown(a, self._home) for a in arguments)}")
        stream = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gatekeeper",
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )


def _flip_one_byte(export: Path, copy: Path) -> int:
    """Copy the export with one letter of one event changed; return the line's number."""
    lines = export.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if b"session.ready" in line)
    lines[number] = lines[number].replace(b"app_read", b"app_reaD", 1)
    copy.write_bytes(b"".join(lines))
    return number + 1


async def _first_url(process: asyncio.subprocess.Process) -> str:
    """Read what gk tells the user until it names a page to open."""
    stream = process.stderr
    while stream is not None and (line := await stream.readline()):
        for word in line.decode().split():
            if word.startswith("http") and "user_code=" in word:
                _say(f"    open {word}")
                return word
    msg = "gk login named no page to open"
    raise TourError(msg)


def _last_words(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[-1].rsplit("FATAL:", 1)[-1].strip()


def _shown(argument: str, home: Path) -> str:
    text = argument.replace(str(home) + "/", "")
    return f'"{text}"' if " " in text else text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _must(condition: bool, otherwise: str) -> None:
    if not condition:
        raise TourError(otherwise)


def _scene(title: str) -> None:
    _say(f"\n{title}")


def _report(step: str, seconds: float) -> None:
    _say(f"  {step:<66} {seconds:5.1f} s")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
