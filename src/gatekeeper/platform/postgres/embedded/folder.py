"""The data folder of one server, and the files of ours beside it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import IntegrityError, UnavailableError
from gatekeeper.kernel.scram import PASSWORD_BYTES, make_password
from gatekeeper.platform.postgres.embedded.processes import (
    HOST,
    POLL_SECONDS,
    ended,
    failure,
    kill,
    spawn,
    works_in,
)
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatekeeper.platform.postgres.embedded.binaries import Binaries

SUPERUSER: Final = "postgres"
INITDB_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
"""For a fast shutdown; then it is an immediate one, and recovery at the next start."""
LEAVE_SECONDS: Final = 2.0
"""How long a server whose parent was killed may take to begin its shutdown."""


class DataFolder:
    """Used by one `EmbeddedServer` at a time; made when it is first needed."""

    def __init__(self, path: Path, binaries: Binaries) -> None:
        self.path = path.absolute()
        self._binaries = binaries
        self._lock: int | None = None

    @property
    def log(self) -> Path:
        return self.beside("log")

    def beside(self, suffix: str) -> Path:
        return self.path.parent / f"postgres-{self.path.name}.{suffix}"

    def take(self) -> None:
        """Let one `EmbeddedServer` at a time use the folder; a killed holder's lock is free."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.beside("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            msg = f"{self.path}: another process of ours is using this data folder"
            raise UnavailableError(msg) from None
        self._lock = lock

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def ensure_made(self) -> None:
        if not self.path.exists():
            await self._initdb()
            return
        try:
            found = (self.path / "PG_VERSION").read_text().strip()
        except OSError:
            msg = f"{self.path}: not a PostgreSQL data folder; name another, or move it away"
            raise IntegrityError(msg) from None
        if found != str(self._binaries.major):
            msg = (
                f"{self.path}: made by PostgreSQL {found}, and PostgreSQL {self._binaries.major} "
                f"({self._binaries.folder}) cannot read it: install PostgreSQL {found}, or dump "
                "with the old version and restore into a new folder"
            )
            raise IntegrityError(msg)
        if not self.beside("password").exists():
            msg = f"{self.path}: its password file {self.beside('password')} is missing"
            raise IntegrityError(msg)

    async def _initdb(self) -> None:
        """Make the folder under another name first, so that half a folder is never taken.

        A new name each time: an initdb whose parent was killed removes its own folder late.
        """
        for left in self.path.parent.glob(f"postgres-{self.path.name}.initdb-*"):
            shutil.rmtree(left, ignore_errors=True)
        password = self.beside("password")
        _write_private(password, make_password(SystemRandom().bytes(PASSWORD_BYTES)).reveal())
        making = Path(tempfile.mkdtemp(prefix=str(self.beside("initdb-"))))
        try:
            await self._run_initdb(making, password)
            os.rename(making, self.path)  # noqa: PTH104  # one system call, it never waits
        finally:
            shutil.rmtree(making, ignore_errors=True)

    async def _run_initdb(self, folder: Path, password: Path) -> None:
        command: list[Path | str] = [
            self._binaries.folder / "initdb",
            f"--pgdata={folder}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            "--no-sync",
        ]
        initdb = spawn(command, log=self.log, death_signal="TERM")
        try:
            await ended(initdb, INITDB_SECONDS)
        finally:
            kill(initdb, signal.SIGTERM)
        if initdb.returncode != 0:
            msg = "initdb failed, or took too long"
            raise failure(msg, self.log)

    async def ensure_alone(self) -> None:
        """Refuse a folder with a live server; clear away what a dead one left.

        A server whose parent was killed a moment ago is waited for. PostgreSQL itself
        takes a zombie, or a stranger with a used-again pid, for a live server.
        """
        deadline = time.monotonic() + LEAVE_SECONDS
        while (pid := self._postmaster()) is not None:
            stopping = self.status() == "stopping"
            if time.monotonic() > deadline + (STOP_SECONDS if stopping else 0):
                msg = f"{self.path}: a PostgreSQL server (pid {pid}) is running on this folder"
                raise UnavailableError(msg)
            await asyncio.sleep(POLL_SECONDS)
        # Children that outlived their postmaster are still found, by their shared memory.
        (self.path / "postmaster.pid").unlink(missing_ok=True)

    def _postmaster(self) -> int | None:
        """Return the pid of the live postmaster of this folder, if there is one."""
        lines = self.pid_file()
        pid = abs(int(lines[0])) if lines and lines[0].lstrip("-").isdecimal() else 0
        return pid if pid and works_in(pid, self.path) else None

    def status(self) -> str:
        """Return the postmaster's own word: starting, ready, stopping; "" if it gave none."""
        lines = self.pid_file()
        return lines[7].strip() if len(lines) > 7 else ""  # noqa: PLR2004  # miscadmin.h, line 8

    def pid_file(self) -> list[str]:
        try:
            return (self.path / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def write_hba(self, extra: Sequence[str]) -> None:
        rules = (*extra, f"host all all {HOST}/32 scram-sha-256")
        _write_private(self.path / "pg_hba.conf", "".join(f"{rule}\n" for rule in rules))


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
