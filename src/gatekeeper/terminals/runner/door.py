"""A terminal's door to its database: a password made here, two files, and a socket.

The folder is the runner's own, and is seen inside as `/run/gatekeeper`. The files and the
socket in it are for the sandbox's user alone (0600). libpq finds them by `environment()`: a
plain `psql` is connected, and its command line and environment have no secret.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel import scram
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.errors import RunnerRejectedError
from gatekeeper.terminals.runner.relay import Relay, tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatekeeper.kernel.random import Random
    from gatekeeper.kernel.secret import Secret
    from gatekeeper.terminals.ports import BoundLogin

INSIDE: Final = "/run/gatekeeper"
SERVICE: Final = "gatekeeper"
SERVICE_FILE: Final = "pg_service.conf"
PASSWORD_FILE: Final = "pgpass"  # noqa: S105  # a file's name
PORT: Final = 5432
SOCKET: Final = f".s.PGSQL.{PORT}"
"""What libpq looks for in a folder that is given as the host."""
BACKLOG: Final = 32
_PRIVATE: Final = 0o600


class DatabaseDoor:
    """One terminal's. First `make_login`, then `open` with the login made for it, then `close`."""

    def __init__(
        self,
        folder: Path,
        owner_uid: int,
        *,
        roots: Path | None = None,
        random: Random | None = None,
    ) -> None:
        """`owner_uid` is who the command runs as, seen from here; `roots` are the CA
        certificates that a target is held against (None: the machine's).
        """
        self._folder = folder
        self._owner = owner_uid
        self._roots = roots
        self._random = random or SystemRandom()
        self._password: Secret | None = None
        self._verifier = ""
        self._login: BoundLogin | None = None
        self._relay: Relay | None = None
        self._closed = False
        self._turn = asyncio.Lock()

    def make_login(self) -> str:
        """Make the password; return its verifier, which is all that leaves this process."""
        if self._password is None:
            self._password = scram.make_password(self._random.bytes(scram.PASSWORD_BYTES))
            salt = self._random.bytes(scram.SALT_BYTES)
            self._verifier = scram.make_verifier(self._password, salt)
        return self._verifier

    def secrets(self) -> tuple[Secret, ...]:
        """Return what nothing that is kept may hold."""
        return () if self._password is None else (self._password,)

    def environment(self) -> dict[str, str]:
        """Return what a command's environment says of the door: where things are, no secret."""
        return {
            "PGSERVICEFILE": f"{INSIDE}/{SERVICE_FILE}",
            "PGSERVICE": SERVICE,
            "PGPASSFILE": f"{INSIDE}/{PASSWORD_FILE}",
            "PGHOST": INSIDE,
            "PGPORT": str(PORT),
        }

    async def open(self, login: BoundLogin) -> None:
        """Write the files, and open the socket, which comes last. The same login twice is once.

        Raises `RunnerRejectedError` for another login than the one it was opened for, and
        `InputError` for names that a service file cannot hold.
        """
        if self._password is None:
            msg = "a door is opened for a login that was made here"
            raise RuntimeError(msg)
        async with self._turn:
            if self._closed or self._login not in {None, login}:
                msg = "this terminal has ended" if self._closed else "this terminal has its login"
                raise RunnerRejectedError(msg)
            if self._login is None:
                await self._open(login, self._password)
                self._login = login

    async def close(self) -> None:
        """End all connections, and take the files away. It is never opened again."""
        async with self._turn:
            self._closed = True
            if self._relay is not None:
                await self._relay.close()
            for name in (SOCKET, PASSWORD_FILE, SERVICE_FILE):
                with suppress(FileNotFoundError):
                    (self._folder / name).unlink()

    async def _open(self, login: BoundLogin, password: Secret) -> None:
        service = _service_file(login)
        self._relay = Relay(login, await asyncio.to_thread(tls_context, login, self._roots))
        with self._entered() as folder:
            self._write(folder, PASSWORD_FILE, _password_file(login, password))
            self._write(folder, SERVICE_FILE, service)
            listener = self._listen(folder)
        await self._relay.serve(listener)

    @contextmanager
    def _entered(self) -> Iterator[int]:
        """Hold the folder itself, so that what is written is written there and nowhere else."""
        ours = self._owner == os.geteuid()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # The sandbox's user may go through, and neither list nor change it.
            os.fchmod(descriptor, 0o700 if ours else 0o711)
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, folder: int, name: str, text: str) -> None:
        """Write a file that appears as a whole, and to its reader alone."""
        draft = f".{name}.new"
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(draft, flags, _PRIVATE, dir_fd=folder), "w") as file:
            file.write(text)
            os.fchown(file.fileno(), self._owner, -1)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _listen(self, folder: int) -> socket.socket:
        """Make a socket that has its owner and mode before anybody can find it.

        It is bound through the open folder: a socket's path has at most 107 bytes.
        """
        draft = f"{SOCKET}.new"
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{draft}")
            os.chmod(draft, _PRIVATE, dir_fd=folder)
            os.chown(draft, self._owner, -1, dir_fd=folder)
            listener.listen(BACKLOG)
            listener.setblocking(False)  # noqa: FBT003  # its only way
            os.rename(draft, SOCKET, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            listener.close()
            raise
        return listener


def _service_file(login: BoundLogin) -> str:
    if not (login.database.isprintable() and login.username.isprintable()):
        msg = "a database and a user have names without line breaks"
        raise InputError(msg)
    # No path: where a sandbox has no root of its own, the door is elsewhere, as `PGHOST` says.
    return f"[{SERVICE}]\nport={PORT}\ndbname={login.database}\nuser={login.username}\n"


def _password_file(login: BoundLogin, password: Secret) -> str:
    fields = (str(PORT), login.database, login.username)
    return ":".join(["*", *map(_escaped, fields), password.reveal()]) + "\n"


def _escaped(field: str) -> str:
    """Escape a field of a password file (PostgreSQL documentation, section 34.16)."""
    return field.replace("\\", "\\\\").replace(":", "\\:")
