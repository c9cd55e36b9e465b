"""What every command that calls the API shares: settings, token, errors and exit codes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NoReturn

import typer
from pydantic import ValidationError

from gatekeeper.client import config, tokens
from gatekeeper.client.api import ANSWER_SECONDS, ApiError, Client, TimedOutError
from gatekeeper.entrypoints.cli.tables import plain
from gatekeeper.entrypoints.commands import Chosen, chosen
from gatekeeper.kernel import ids
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, InputError, UnavailableError
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel


LONG_SECONDS: Final = 1.5
"""Longer than this a person wonders whether anything happens."""


class Exit(IntEnum):
    """Exit codes; they are part of what is promised."""

    OK = 0
    ERROR = 1
    USAGE = 2
    AUTHENTICATION = 3
    DENIED = 4
    NOT_FOUND = 5
    UNREACHABLE = 6
    TIMED_OUT = 7


_BY_CODE: Final = {
    ErrorCode.VALIDATION_ERROR: Exit.USAGE,
    ErrorCode.AUTHENTICATION_ERROR: Exit.AUTHENTICATION,
    ErrorCode.POLICY_DENIED: Exit.DENIED,
    ErrorCode.SESSION_LIMIT_EXCEEDED: Exit.DENIED,
    ErrorCode.NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.RECORDING_DELETED: Exit.NOT_FOUND,
    ErrorCode.SERVICE_UNAVAILABLE: Exit.UNREACHABLE,
    ErrorCode.AGENT_UNREACHABLE: Exit.UNREACHABLE,
    ErrorCode.TARGET_UNREACHABLE: Exit.UNREACHABLE,
    ErrorCode.JOB_EXPIRED: Exit.TIMED_OUT,
}


class Caller:
    """One run of a command: who calls which server, under which correlation id."""

    def __init__(self, options: Chosen) -> None:
        self.home = config.home()
        self.settings = config.load(options.profile, self.home)
        self.server = config.checked_server(options.server or self.settings.server)
        self.verbose = options.verbose
        self.timing = options.timing
        self.login_command = _login_command(options)
        self.correlation_id = ids.correlation_id(secrets.token_bytes(ids.RANDOM_BYTES))

    @contextmanager
    def client(
        self, *, anonymous: bool = False, patience: float = ANSWER_SECONDS
    ) -> Iterator[Client]:
        """Open a client that is logged in, unless `anonymous`. Raises `GatekeeperError`.

        `patience` is how long it waits for an answer, in seconds.
        """
        with Client(
            self.server,
            None if anonymous else self._token(),
            correlation_id=self.correlation_id,
            patience=patience,
            observe=self._request_took if self.timing else None,
        ) as client:
            yield client

    def wants_json(self, flag: bool) -> bool:
        """Whether the result is to be JSON: by the flag, or by the profile's output_format."""
        return flag or self.settings.output_format == "json"

    def took(self, what: str, seconds: float, **more: object) -> None:
        """Write a duration as a line of JSON, for those who measure."""
        values = {
            "event": what, "correlationId": self.correlation_id, **more,
            "durationMs": round(seconds * 1000, 1),
        }  # fmt: skip
        note(json.dumps(values))

    def _request_took(self, operation: str, status: int | None, seconds: float) -> None:
        self.took("gk.request", seconds, operation=operation, status=status)

    def _token(self) -> Secret:
        if text := os.environ.get("GATEKEEPER_TOKEN"):
            return Secret(text)
        found = tokens.load(self.home, self.server)
        if found is None:
            msg = f"you are not logged in at {self.server}; run {self.login_command}"
            raise GatekeeperError(ErrorCode.AUTHENTICATION_ERROR, msg)
        if not found.is_fresh(time.time()):  # noqa: TID251  # compared with the token's own end
            found = self._renewed(found)
        return found.identity

    def _renewed(self, stale: tokens.Tokens) -> tokens.Tokens:
        from gatekeeper.client import login  # noqa: PLC0415  # seldom needed

        with tokens.renewing(self.home, self.server):
            found = tokens.load(self.home, self.server)
            if found is not None and found.expires_at > stale.expires_at:
                return found  # another command did it while we waited
            fresh = login.renew(stale)
            if fresh is None:
                msg = f"your login at {self.server} has ended; run {self.login_command}"
                raise GatekeeperError(ErrorCode.AUTHENTICATION_ERROR, msg)
            tokens.save(self.home, self.server, fresh)
            return fresh


@contextmanager
def calling() -> Iterator[Caller]:
    """Run a command's body; turn what goes wrong into words and an exit code."""
    options = chosen.get(Chosen())
    began = time.monotonic()
    caller = None
    code: object = Exit.ERROR
    try:
        with explaining():
            caller = Caller(options)
            yield caller
            code = Exit.OK
    except SystemExit as ending:
        code = ending.code
        raise
    finally:
        took = time.monotonic() - began
        if options.verbose and caller is not None:
            note(f"{took * 1000:.0f} ms, correlation id {caller.correlation_id}")
        if options.timing and caller is not None:
            caller.took("gk.command", took, command=options.command, exit=code)


@contextmanager
def explaining() -> Iterator[None]:
    """Turn what is known to go wrong into words and an exit code."""
    try:
        yield
    except ApiError as error:
        _refused(error)
    except InputError as error:
        fail(error.detail, Exit.USAGE)
    except ValidationError as error:
        fail(_first_problem(error), Exit.USAGE)
    except TimedOutError as error:
        fail(error.detail, Exit.TIMED_OUT)
    except UnavailableError as error:
        fail(error.detail, Exit.UNREACHABLE)
    except GatekeeperError as error:
        fail(error.detail, _BY_CODE.get(error.code, Exit.ERROR))
    except BrokenPipeError:
        _nobody_reads()
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), Exit.ERROR)


def _nobody_reads() -> NoReturn:
    """End quietly: who read our output (`head`, a pager) has seen enough."""
    # Python would try again when it ends, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def _login_command(options: Chosen) -> str:
    """Return how to log in where this command called."""
    where = [("--profile", options.profile), ("--server", options.server)]
    return " ".join(["gk login", *(f"{name} {value}" for name, value in where if value)])


def _first_problem(error: ValidationError) -> str:
    """Name the field and what was expected; never the value."""
    found = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    return f"{where}: {found['msg']}"


def show(model: BaseModel) -> None:
    """Write a result as JSON on standard output."""
    typer.echo(model.model_dump_json(by_alias=True, indent=2, exclude_none=True))


def note(text: str) -> None:
    """Tell the person something; standard output is for results."""
    typer.echo(plain(text, lines=True), err=True)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say what is waited for, to a person, when it takes long."""
    timer = threading.Timer(LONG_SECONDS, lambda: note(f"{text} ..."))
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def fail(text: str, code: Exit) -> NoReturn:
    """End the command: what is wrong, and the exit code that says it to a script."""
    typer.echo(typer.style("error: ", fg="red") + plain(text, lines=True), err=True)
    sys.exit(code)


def _refused(error: ApiError) -> NoReturn:
    problem = error.problem
    lines = [problem.detail, *(f"  - {reason}" for reason in problem.reasons)]
    if problem.hint:
        lines.append(f"  try: {problem.hint}")
    lines.append(f"  correlation id {problem.correlation_id}")
    fail("\n".join(lines), _BY_CODE.get(error.code, Exit.ERROR))
