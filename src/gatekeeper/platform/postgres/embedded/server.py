"""The server: started as our child, stopped in order."""

from __future__ import annotations

import asyncio
import signal
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import make_conninfo

from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.postgres.embedded.folder import STOP_SECONDS, SUPERUSER, DataFolder
from gatekeeper.platform.postgres.embedded.processes import (
    HOST,
    POLL_SECONDS,
    ended,
    failure,
    kill,
    spawn,
)
from gatekeeper.platform.processes.listening import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from gatekeeper.platform.postgres.embedded.binaries import Binaries

START_SECONDS: Final = 60.0
"""Crash recovery happens inside it: 240 ms for 500,000 rows not yet checkpointed."""

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

_PORT_TAKEN: Final = "could not create any TCP/IP sockets"
_OLD_CHILDREN: Final = "pre-existing shared memory block"
"""Children of a killed postmaster are still leaving."""


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
        self.binaries = binaries
        self.folder = DataFolder(data, binaries)
        self._wanted_port = port
        self._settings = {**DEFAULTS, **settings, **FIXED}
        self._extra_hba = tuple(extra_hba)
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The TCP port; known once started."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None while stopped."""
        return None if self._process is None else self._process.pid

    @property
    def data(self) -> Path:
        return self.folder.path

    @property
    def log(self) -> Path:
        return self.folder.log

    def dsn(self, database: str = "postgres") -> str:
        """Return the superuser's connection string. It holds the password: wrap it at once."""
        return make_conninfo(
            host=HOST,
            port=self._port,
            user=SUPERUSER,
            dbname=database,
            password=self.folder.beside("password").read_text().strip(),
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
        self.folder.take()
        try:
            await self.folder.ensure_made()
            await self.folder.ensure_alone()
            self.folder.write_hba(self._extra_hba)
            await self._spawn_until_ready()
        except BaseException:
            self._end_now()
            self.folder.release()
            raise

    async def stop(self) -> None:
        """End the server: fast shutdown, then immediate. It is gone when this returns."""
        try:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                await ended(self._process, STOP_SECONDS)
        finally:
            self._end_now()
            self.folder.release()

    async def _spawn_until_ready(self) -> None:
        """Spawn; again while the trouble passes: a lost race for a port, children leaving."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._port = self._wanted_port or free_port()
            self._process = spawn(self._command(), log=self.log, death_signal="INT")
            if await self._ready(deadline):
                return
            alive = self._process.poll() is None
            error = failure("PostgreSQL did not start", self.log)
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
            if (
                self.folder.pid_file()[:1] == [str(self._process.pid)]
                and self.folder.status() == "ready"
            ):
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

    def _end_now(self) -> None:
        if self._process is not None:
            kill(self._process, signal.SIGQUIT)
            self._process = None
