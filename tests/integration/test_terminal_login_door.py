"""A terminal's door to its database: real servers, a real psql in a sandbox, hostile peers."""

import asyncio
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from factories.certificates import self_signed
from gatekeeper.kernel.errors import GatekeeperError, InputError
from gatekeeper.kernel.ids import SessionId
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.terminals.ports import BoundLogin
from gatekeeper.terminals.protocol import postgresql as pg
from gatekeeper.terminals.runner import relay
from gatekeeper.terminals.runner.door import (
    INSIDE,
    PASSWORD_FILE,
    SERVICE_FILE,
    SOCKET,
    DatabaseDoor,
)
from servers import SETTINGS, binaries, run
from waiting import settled

AS_ROOT: Final = os.geteuid() == 0
STRANGER: Final = 4_242
OWNER: Final = 65_534 if AS_ROOT else os.geteuid()
"""Who the command in a sandbox runs as, seen from outside."""
USER: Final = "gk_aaaaaaaaaaaaaaaaaaaa"


@dataclass
class Opened:
    door: DatabaseDoor
    folder: Path
    login: BoundLogin
    server: EmbeddedServer | None = None

    def dsn(self, **changes: Any) -> dict[str, Any]:
        (secret,) = self.door.secrets()
        return {
            "host": str(self.folder), "port": 5432, "user": self.login.username,
            "dbname": self.login.database, "password": secret.reveal(), **changes,
        }  # fmt: skip

    async def connect(self, **changes: Any) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(**self.dsn(**changes), autocommit=True)

    async def refused(self, **changes: Any) -> str:
        with pytest.raises(psycopg.OperationalError) as caught:
            await self.connect(**changes)
        return str(caught.value)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Debian's PostgreSQL 15, which takes nobody without TLS."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = self_signed(folder)
    Path(key).chmod(0o600)
    settings = {**SETTINGS, "ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key}
    refuse = "hostnossl all all 127.0.0.1/32 reject"
    server = EmbeddedServer(
        folder / "data", binaries(15), settings=settings, extra_hba=[refuse]
    )  # fmt: skip
    run(server.start())
    yield server
    run(server.stop())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may pass through, with a path that a socket can have."""
    made = Path(tempfile.mkdtemp(prefix="gk-door-"))
    made.chmod(0o711)
    yield made / "door"
    shutil.rmtree(made)


@asynccontextmanager
async def opened(
    folder: Path, server: EmbeddedServer, *, owner: int = os.geteuid(), roots: Path | None = None,
    **changes: Any,
) -> AsyncIterator[Opened]:  # fmt: skip
    """Open a door to a login that was just made at a server."""
    door = DatabaseDoor(folder, owner, roots=roots)
    verifier = door.make_login()
    admin = await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True)
    login = replace(bound("127.0.0.1", server.port), **changes)
    try:
        await admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(USER)))
        await admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(USER), verifier)
        )
        await admin.execute(
            sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(sql.Identifier(USER))
        )
        await door.open(login)
        yield Opened(door, folder, login, server)
    finally:
        await door.close()
        await admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(USER)))
        await admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(USER)))
        await admin.close()


@asynccontextmanager
async def in_front_of(
    folder: Path, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    **changes: Any,
) -> AsyncIterator[Opened]:  # fmt: skip
    """Open a door to something that is no honest PostgreSQL."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    door = DatabaseDoor(folder, os.geteuid())
    door.make_login()
    login = replace(bound("127.0.0.1", server.sockets[0].getsockname()[1]), **changes)
    await door.open(login)
    try:
        yield Opened(door, folder, login)
    finally:
        await door.close()
        server.close()
        await server.wait_closed()


def bound(host: str, port: int) -> BoundLogin:
    return BoundLogin(
        session=SessionId("ses_aaaaaaaaaaaaaaaaaaaa"), host=host, port=port, database="postgres",
        sslmode="disable", username=USER,
    )  # fmt: skip


def in_a_sandbox(opened: Opened, script: str, *, uid: int = OWNER) -> "subprocess.Popen[str]":
    """Run a shell script where there is no network, only the door, as the sandbox's user."""
    roots = [name for name in ("/usr", "/lib", "/lib64", "/bin", "/etc") if Path(name).exists()]
    become: list[str] = []
    if AS_ROOT:
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    command = [
        "bwrap", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent",
        *(["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if AS_ROOT else ["--unshare-user"]),
        *(word for name in roots for word in ("--ro-bind", name, name)),
        "--proc", "/proc", "--dev", "/dev", "--perms", "0755", "--dir", "/run",
        "--ro-bind", str(opened.folder), INSIDE, "--clearenv", "--setenv", "PATH", "/usr/bin:/bin",
        *(w for pair in opened.door.environment().items() for w in ("--setenv", *pair)),
        *become, "sh", "-c", script,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


async def said(process: "subprocess.Popen[str]") -> str:
    out, _ = await asyncio.to_thread(process.communicate, timeout=30)
    return out


def owner_and_mode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, stat.S_IMODE(found.st_mode)


def files_with(secret: bytes, folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and secret in p.read_bytes()]


def seen_by_processes(secret: bytes) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                if secret in (process / name).read_bytes():
                    found.append(f"{process}/{name}")
            except OSError:
                continue
    return found


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
async def test_psql_in_a_sandbox_is_connected_and_the_password_is_in_one_file(
    folder: Path, server_18: EmbeddedServer
) -> None:
    async with opened(folder, server_18, owner=OWNER) as it:
        secret = it.door.secrets()[0].reveal().encode()
        process = in_a_sandbox(
            it, "psql -XAt -c 'SELECT session_user, pg_sleep(0.7)'; ls /sys/class/net 2>&1 | head -1;"
            f" echo x > {INSIDE}/{PASSWORD_FILE}; rm -f {INSIDE}/{SOCKET};"
            f" touch {INSIDE}/new; mv {INSIDE}/{SERVICE_FILE} {INSIDE}/.{SERVICE_FILE};"
            " psql -XAt -c 'SELECT 42'",
        )  # fmt: skip
        await asyncio.sleep(0.4)
        places = seen_by_processes(secret)
        out = await said(process)
        files = files_with(secret, folder)

        assert f"{USER}|" in out
        assert out.rstrip().endswith("42"), out
        assert out.count("Read-only file system") >= 3, out
        assert not places
        assert files == [folder / PASSWORD_FILE]
        assert secret not in server_18.log.read_bytes()
        assert sorted(os.listdir(folder)) == sorted([SOCKET, PASSWORD_FILE, SERVICE_FILE])  # noqa: PTH208


@pytest.mark.skipif(not AS_ROOT, reason="needs users to be")
async def test_no_other_user_can_read_the_files_or_use_the_socket(
    folder: Path, server_18: EmbeddedServer
) -> None:
    async with opened(folder, server_18, owner=OWNER) as it:
        for name in (SOCKET, PASSWORD_FILE, SERVICE_FILE):
            assert owner_and_mode(folder / name) == (OWNER, 0o600)
        assert owner_and_mode(folder) == (os.geteuid(), 0o711)
        script = (
            f"cat {INSIDE}/{PASSWORD_FILE}; ls {INSIDE}; unset PGSERVICE;"
            f" psql -X 'host={INSIDE} user={USER} dbname=postgres' -c 'SELECT 1'"
        )
        out = await said(in_a_sandbox(it, script, uid=STRANGER))

        assert out.count("Permission denied") >= 3, out
        assert it.door.secrets()[0].reveal() not in out

        owners = f"echo ours > {folder}/{PASSWORD_FILE}.mine; rm {folder}/{SOCKET}; ls {folder}"
        done = await asyncio.create_subprocess_exec(
            "setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", "sh", "-c", owners,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        outside, _ = await done.communicate()
        assert outside.count(b"ermission denied") == 3, outside


@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
async def test_the_relay_speaks_tls_to_a_target_and_libpq_is_none_the_wiser(
    folder: Path, tls_server: EmbeddedServer, sslmode: str
) -> None:
    roots = Path(tls_server.data).parent / "cert.pem"
    async with opened(folder, tls_server, roots=roots, sslmode=sslmode) as it:
        connection = await it.connect(channel_binding="prefer")
        row = await (
            await connection.execute(
                "SELECT ssl, session_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
        ).fetchone()
        await connection.close()

    assert row == (True, USER)


@pytest.mark.parametrize(
    ("changes", "trusted", "words"),
    [
        ({"sslmode": "verify-full"}, False, "its certificate is refused (self-signed certificate)"),
        ({"sslmode": "verify-ca"}, False, "its certificate is refused (self-signed certificate)"),
        ({"sslmode": "verify-full", "host": "localhost"}, True, "its certificate is refused"),
        ({"sslmode": "verify-ca", "host": "localhost"}, True, None),
        ({"sslmode": "disable"}, True, "pg_hba.conf rejects connection"),
    ],
)
async def test_a_certificate_is_held_against_what_is_trusted(
    folder: Path, tls_server: EmbeddedServer, changes: dict[str, Any], trusted: bool,
    words: str | None,
) -> None:  # fmt: skip
    roots = Path(tls_server.data).parent / "cert.pem" if trusted else None
    async with opened(folder, tls_server, roots=roots, **changes) as it:
        if words is None:
            await (await it.connect()).close()
        else:
            assert words in await it.refused()


async def test_a_server_without_tls_is_not_spoken_to_in_clear(
    folder: Path, server_18: EmbeddedServer
) -> None:
    async with opened(folder, server_18, sslmode="require") as it:
        assert "it does not speak TLS" in await it.refused()


async def test_it_leads_to_one_login_of_one_database(
    folder: Path, server_18: EmbeddedServer
) -> None:
    async with opened(folder, server_18) as it:
        assert "and nothing else" in await it.refused(user="postgres")
        assert "and nothing else" in await it.refused(dbname="template1")
        assert "authentication failed" in await it.refused(password="wrong")


async def test_a_statement_can_be_cancelled_through_it(
    folder: Path, tls_server: EmbeddedServer
) -> None:
    async with opened(folder, tls_server, sslmode="require") as it:
        connection = await it.connect()
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.2)
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await sleeping
        await connection.close()


async def test_much_goes_through_whole_and_a_client_that_does_not_read_holds_the_server_up(
    folder: Path,
) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(1_000)
        writer.write(b"R\0\0\0\x08\0\0\0\0")
        for number in range(40_000):
            writer.write(b"%01024d" % number)
            await writer.drain()
            sent = number + 1

    async with in_front_of(folder, flood) as it:
        reader, writer = await asyncio.open_unix_connection(folder / SOCKET)
        writer.write(start_packet(USER, "postgres"))
        held_up_at = await settled(lambda: sent)
        assert await reader.readexactly(9) == b"R\0\0\0\x08\0\0\0\0"
        for number in range(40_000):
            assert await reader.readexactly(1_024) == b"%01024d" % number
        assert await reader.read() == b""
        writer.close()
        await it.door.close()

    assert held_up_at < 20_000  # most of it: the kernel's own buffers on loopback
    assert sent == 40_000


async def test_a_revoked_login_loses_its_connection_and_gets_the_servers_words(
    folder: Path, server_18: EmbeddedServer
) -> None:
    async with opened(folder, server_18) as it:
        connection = await it.connect()
        await connection.execute("SELECT 1")
        async with await psycopg.AsyncConnection.connect(server_18.dsn()) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [USER]
            )
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            await connection.execute("SELECT 1")
        await connection.close()


async def test_a_closed_door_ends_its_connections_and_leaves_no_file(
    folder: Path, server_18: EmbeddedServer
) -> None:
    async with opened(folder, server_18) as it:
        connection = await it.connect()
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        await it.door.close()
        with pytest.raises(psycopg.OperationalError):
            await sleeping
        await connection.close()
        assert os.listdir(folder) == []  # noqa: PTH208
        await it.door.close()
        with pytest.raises(GatekeeperError, match="has ended"):
            await it.door.open(it.login)


async def test_connections_are_bounded_and_a_place_that_is_free_again_is_given_again(
    folder: Path, server_18: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "MAX_CONNECTIONS", 2)
    async with opened(folder, server_18) as it:
        two = [await it.connect() for _ in range(2)]
        assert "at most 2 connections" in await it.refused()
        await two.pop().close()
        await asyncio.sleep(0.1)
        two.append(await it.connect())
        for connection in two:
            await connection.close()


async def test_a_database_that_is_not_there_is_told_of_in_words(folder: Path) -> None:
    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError

    async with in_front_of(folder, never, port=1) as it:
        assert "the database cannot be reached: Connect call failed" in await it.refused()
    async with in_front_of(folder.with_name("2"), never, host="no.such.host.invalid") as it:
        assert "the database cannot be reached: " in await it.refused()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "it closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not PostgreSQL"),
        (b"R\0\0\0\x08\0\0\0\x03", "in a way that would show it"),
        (b"R\0\0\xff\xff", "is not PostgreSQL"),
        (b"R\0\0\0\x08\0\0", "it closed the connection"),
    ],
)
async def test_what_is_no_honest_server_is_told_of_in_words_and_gets_no_password(
    folder: Path, answer: bytes, words: str
) -> None:
    heard = bytearray()

    async def dishonest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(10_000))
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        heard.extend(await reader.read())

    async with in_front_of(folder, dishonest) as it:
        assert words in await it.refused()
        assert it.door.secrets()[0].reveal().encode() not in heard


async def test_bytes_that_were_put_behind_a_servers_yes_to_tls_are_never_taken_for_its_own(
    folder: Path,
) -> None:
    """CVE-2021-23222: what is not encrypted and follows `S` must not reach the client."""

    async def stuffing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S" + b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I")
        await reader.read(10_000)

    async with in_front_of(folder, stuffing, sslmode="require") as it:
        assert "the database cannot be reached" in await it.refused()


@pytest.mark.parametrize(
    "packet",
    [b"GET / HTTP/1.1\r\n\r\n", pg.HEAD.pack(2**31, 196_608), pg.TLS_REQUEST * 3, b"\0" * 8],
)
async def test_a_client_that_does_not_begin_as_one_does_is_closed_with_words(
    folder: Path, packet: bytes
) -> None:
    reached = asyncio.Event()

    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.set()

    async with in_front_of(folder, never):
        reader, writer = await asyncio.open_unix_connection(folder / SOCKET)
        writer.write(packet)
        answer = await reader.read()
        writer.close()

    assert answer.lstrip(b"N").startswith(b"E")
    assert not reached.is_set()


async def test_a_login_is_bound_once_and_only_if_it_was_made_here(folder: Path) -> None:
    async def closes(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None: ...

    with pytest.raises(RuntimeError):
        await DatabaseDoor(folder, os.geteuid()).open(bound("127.0.0.1", 1))
    async with in_front_of(folder, closes) as it:
        inode = (folder / SOCKET).stat().st_ino
        await it.door.open(it.login)
        assert (folder / SOCKET).stat().st_ino == inode
        assert it.door.make_login() == it.door.make_login()
        with pytest.raises(GatekeeperError, match="has its login"):
            await it.door.open(replace(it.login, username="gk_b"))
    strange = DatabaseDoor(folder.with_name("2"), os.geteuid())
    strange.make_login()
    with pytest.raises(InputError):
        await strange.open(replace(bound("127.0.0.1", 1), database="shop\nhost=elsewhere"))


async def test_a_failed_open_can_be_tried_again(folder: Path) -> None:
    door = DatabaseDoor(folder, os.geteuid())
    door.make_login()
    os.symlink("/", folder)  # noqa: PTH211  # never followed
    with pytest.raises(OSError, match="Not a directory"):
        await door.open(bound("127.0.0.1", 1))
    os.unlink(folder)  # noqa: PTH108
    await door.open(bound("127.0.0.1", 1))
    assert (folder / SOCKET).is_socket()
    await door.close()


def start_packet(user: str, database: str) -> bytes:
    body = f"user\0{user}\0database\0{database}\0\0".encode()
    return pg.HEAD.pack(8 + len(body), 196_608) + body
