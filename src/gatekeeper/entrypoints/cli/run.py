"""`gk exec`: a command with a login that ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from gatekeeper.client import operations
from gatekeeper.entrypoints.cli.asking import Reason, Role, Target, Ttl, ask, environment_of
from gatekeeper.entrypoints.cli.caller import Exit, calling, fail, note
from gatekeeper.kernel.errors import GatekeeperError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gatekeeper.client.api import Client
    from gatekeeper.kernel.secret import Secret
    from gatekeeper.wire.sessions import SessionView

ENDING: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
FORWARDED: Final = (*ENDING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
FROM_THE_KEYBOARD: Final = (signal.SIGINT, signal.SIGQUIT)
SERVICE: Final = "gatekeeper"
MISLEADING: Final = ("PGHOSTADDR", "PGPASSWORD", "PGSERVICE", "PGREQUIRESSL")
"""Variables of libpq that would send the command elsewhere, or as somebody else."""


def run(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND", help="After --: what to run, and its arguments."),
    ],
    role: Role,
    target: Target = None,
    ttl: Ttl = None,
    reason: Reason = "",
) -> None:
    """Run a command with PG* set for a fresh login; end the login when it ends.

    The password is in a private file that libpq reads, never in an argument or a
    variable. The exit code is the command's own. If gk itself is killed with -9, the
    login ends at its TTL.

    Example:  gk exec --target pg-local --role app_read -- psql

    Example:  gk exec -t pg-local -r app_write --ttl 10m -- ./migrate.sh
    """
    if shutil.which(command[0]) is None:
        fail(f"{command[0]}: command not found", Exit.USAGE)
    with calling() as caller, caller.client() as client, _Signals() as signals:
        view, password = ask(caller, client, target, role, ttl, reason, generated=False)
        try:
            with _private_files(view, password) as environment:
                note(f"session {view.session_id}; it ends with the command")
                inherited = {k: v for k, v in os.environ.items() if k not in MISLEADING}
                code = _run(command, {**inherited, **environment}, signals)
        finally:
            _revoke(client, view)
        sys.exit(code)


class _Signals:
    """Takes signals from before the login is asked for until after it is revoked.

    What comes before there is a command is held, so that no login is left behind by it;
    what comes while the command runs is the command's.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._previous: dict[int, Any] = {}
        self.ending: int | None = None
        """The signal that came before the command, and ends us instead of it."""

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._take) for number in FORWARDED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def hand_to(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        if self.ending is not None:
            child.send_signal(self.ending)

    def _take(self, number: int, _frame: object) -> None:
        if self._child is None:
            self.ending = number if number in ENDING else self.ending
        elif not (number in FROM_THE_KEYBOARD and _in_foreground()):
            self._child.send_signal(number)


def _in_foreground() -> bool:
    """Whether the terminal sends what is typed (Ctrl-C) to our command itself."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _run(command: Sequence[str], environment: dict[str, str], signals: _Signals) -> int:
    """Run the command in our place: it gets our signals, we give its exit code."""
    if signals.ending is not None:
        return 128 + signals.ending
    child = subprocess.Popen(command, env=environment)  # noqa: S603  # the user's own command
    signals.hand_to(child)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _revoke(client: Client, view: SessionView) -> None:
    try:
        client.call(operations.revoke_session(view.session_id, wait=5))
    except GatekeeperError as error:
        note(f"could not revoke {view.session_id}: {error.detail}; it ends at its TTL")


@contextmanager
def _private_files(view: SessionView, password: Secret | None) -> Iterator[dict[str, str]]:
    """Write a service file and a password file that only we can read; remove them after."""
    folder = Path(tempfile.mkdtemp(prefix="gk-", dir=os.environ.get("XDG_RUNTIME_DIR")))
    try:
        values = environment_of(view)
        place = (values["PGHOST"], values["PGPORT"], values["PGDATABASE"], values["PGUSER"])
        _write(
            folder / "pass",
            ":".join([*map(_escaped, place), password.reveal() if password else ""]),
        )
        _write(
            folder / "service",
            f"[{SERVICE}]\nhost={place[0]}\nport={place[1]}\ndbname={place[2]}\nuser={place[3]}\n"
            f"sslmode={values['PGSSLMODE']}\npassfile={folder / 'pass'}\n",
        )
        yield {
            **values,
            "PGPASSFILE": str(folder / "pass"),
            "PGSERVICEFILE": str(folder / "service"),
            "GK_SERVICE": SERVICE,
            "GK_SESSION": view.session_id,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _escaped(field: str) -> str:
    """Escape a field of a password file (PostgreSQL documentation, section 34.16)."""
    return field.replace("\\", "\\\\").replace(":", "\\:")
