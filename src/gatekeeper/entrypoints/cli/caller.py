"""What every command that calls the API shares: settings, token, errors and exit codes."""

from __future__ import annotations

import os
import secrets
import sys
import time
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NoReturn

import typer

from gatekeeper.client import config, tokens
from gatekeeper.client.api import ApiError, Client, ServerUnreachableError
from gatekeeper.entrypoints.cli.options import Chosen, chosen
from gatekeeper.kernel import ids
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, InputError, UnavailableError
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel


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
        self.server = (options.server or self.settings.server).rstrip("/")
        self.verbose = options.verbose
        self.correlation_id = ids.correlation_id(secrets.token_bytes(ids.RANDOM_BYTES))

    @contextmanager
    def client(self, *, anonymous: bool = False) -> Iterator[Client]:
        """Open a client that is logged in, unless `anonymous`."""
        token = None if anonymous else self._token()
        with Client(self.server, token, correlation_id=self.correlation_id) as client:
            yield client

    def _token(self) -> Secret | None:
        if text := os.environ.get("GATEKEEPER_TOKEN"):
            return Secret(text)
        found = tokens.load(self.home, self.server)
        if found is None:
            return None
        if not found.is_fresh(time.time()):  # noqa: TID251  # compared with the token's own end
            found = self._renewed(found)
        return None if found is None else found.identity

    def _renewed(self, stale: tokens.Tokens) -> tokens.Tokens | None:
        from gatekeeper.client import login  # noqa: PLC0415  # seldom needed

        fresh = login.renew(stale)
        if fresh is not None:
            tokens.save(self.home, self.server, fresh)
        return fresh


@contextmanager
def calling() -> Iterator[Caller]:
    """Run a command's body; turn what goes wrong into words and an exit code."""
    options = chosen.get(Chosen())
    began = time.monotonic()
    caller = None
    try:
        caller = Caller(options)
        yield caller
    except ApiError as error:
        _refused(error)
    except InputError as error:
        fail(error.detail, Exit.USAGE)
    except (ServerUnreachableError, UnavailableError) as error:
        fail(error.detail, Exit.UNREACHABLE)
    except GatekeeperError as error:
        fail(error.detail, _BY_CODE.get(error.code, Exit.ERROR))
    finally:
        if caller is not None and caller.verbose:
            took = (time.monotonic() - began) * 1000
            note(f"{took:.0f} ms, correlation id {caller.correlation_id}")


def show(model: BaseModel) -> None:
    """Write a result as JSON on standard output."""
    typer.echo(model.model_dump_json(by_alias=True, indent=2, exclude_none=True))


def note(text: str) -> None:
    """Tell the person something; standard output is for results."""
    typer.echo(text, err=True)


def fail(text: str, code: Exit) -> NoReturn:
    """End the command: what is wrong, and the exit code that says it to a script."""
    typer.echo(typer.style("error: ", fg="red") + text, err=True)
    sys.exit(code)


def _refused(error: ApiError) -> NoReturn:
    problem = error.problem
    lines = [problem.detail, *(f"  - {reason}" for reason in problem.reasons)]
    if problem.hint:
        lines.append(f"  try: {problem.hint}")
    lines.append(f"  correlation id {problem.correlation_id}")
    fail("\n".join(lines), _BY_CODE.get(error.code, Exit.ERROR))
