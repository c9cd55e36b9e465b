"""The typed API client, sync and async, from one table of operations.

An `Operation` says how a request is made and how its answer is read; the two
clients only send. `Client(...).call(sessions.get("ses_…"))` and
`await AsyncClient(...).call(sessions.get("ses_…"))` are the same operation.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeAlias, TypeVar

import httpx
from pydantic import ValidationError

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, UnavailableError
from gatekeeper.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from gatekeeper.kernel.secret import Secret

T = TypeVar("T")
Query: TypeAlias = "dict[str, str | int | Sequence[str]]"
"""A name with several values stands once for each of them."""

ANSWER_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 16_777_216


class ApiError(GatekeeperError):
    """The server refused or failed; `problem` is what it said."""

    def __init__(self, problem: Problem) -> None:
        code = (
            ErrorCode(problem.code) if problem.code in set(ErrorCode) else ErrorCode.INTERNAL_ERROR
        )
        super().__init__(code, problem.detail, retryable=problem.retryable)
        self.problem = problem


class ServerUnreachableError(UnavailableError):
    """No answer came. The request may or may not have been carried out."""


class TimedOutError(UnavailableError):
    """The server took the request and did not answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[T]):
    """One operation of the API with its arguments."""

    name: str
    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: Query = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    """Sending it again changes nothing more: it is tried again after a lost answer."""


class Client:
    """Sends operations, one after the other."""

    def __init__(
        self,
        server: str,
        token: Secret | None,
        *,
        correlation_id: str,
        patience: float = ANSWER_SECONDS,
        observe: Callable[[str, int | None, float], None] | None = None,
    ) -> None:
        """`observe(operation, status, seconds)` is told of each request; None: no answer."""
        self._http = httpx.Client(**_options(server, token, correlation_id, patience))
        self._observe = observe

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, operation: Operation[T]) -> T:
        """Send an operation. Raises `ApiError` or `ServerUnreachableError`."""
        for last in (False, True) if operation.repeatable else (True,):
            try:
                return _read(operation, self._send(operation))
            except httpx.HTTPError as error:
                if last:
                    raise _unreachable(error, str(self._http.base_url)) from error
        raise AssertionError  # the last try returns or raises

    def _send(self, operation: Operation[Any]) -> httpx.Response:
        began, status = time.monotonic(), None
        try:
            response = self._http.request(**_request(operation))
            status = response.status_code
        finally:
            if self._observe is not None:
                self._observe(operation.name, status, time.monotonic() - began)
        return response

    @contextmanager
    def stream(self, operation: Operation[T]) -> Iterator[Iterator[str]]:
        """Send an operation and yield the lines of its answer as they come."""
        try:
            with self._http.stream(**_request(operation), timeout=None) as response:
                if response.is_error:
                    response.read()
                    _raise_problem(response)
                yield _lines(response.iter_bytes())
        except httpx.HTTPError as error:
            raise _unreachable(error, str(self._http.base_url)) from error

    @contextmanager
    def download(self, operation: Operation[T]) -> Iterator[Iterator[bytes]]:
        """Send an operation and yield the bytes of its answer as they come, exactly."""
        try:
            with self._http.stream(**_request(operation)) as response:
                if response.is_error:
                    response.read()
                    _raise_problem(response)
                yield response.iter_bytes()
        except httpx.HTTPError as error:
            raise _unreachable(error, str(self._http.base_url)) from error


class AsyncClient:
    """Sends operations, as many at a time as there are callers."""

    def __init__(self, server: str, token: Secret | None, *, correlation_id: str) -> None:
        self._http = httpx.AsyncClient(**_options(server, token, correlation_id))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(self, operation: Operation[T]) -> T:
        """Send an operation. Raises `ApiError` or `ServerUnreachableError`."""
        for last in (False, True) if operation.repeatable else (True,):
            try:
                return _read(operation, await self._http.request(**_request(operation)))
            except httpx.HTTPError as error:
                if last:
                    raise _unreachable(error, str(self._http.base_url)) from error
        raise AssertionError  # the last try returns or raises

    @asynccontextmanager
    async def stream(self, operation: Operation[T]) -> AsyncIterator[AsyncIterator[str]]:
        """Send an operation and yield the lines of its answer as they come."""
        try:
            async with self._http.stream(**_request(operation), timeout=None) as response:
                if response.is_error:
                    await response.aread()
                    _raise_problem(response)
                yield _lines_as_they_come(response.aiter_bytes())
        except httpx.HTTPError as error:
            raise _unreachable(error, str(self._http.base_url)) from error


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Split at line feeds alone: what else Unicode ends a line with may stand in a line of ours."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


async def _lines_as_they_come(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Do the same as `_lines`."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _options(
    server: str, token: Secret | None, correlation_id: str, patience: float = ANSWER_SECONDS
) -> dict[str, Any]:
    headers = {"X-Correlation-ID": correlation_id}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.reveal()}"
    return {
        "base_url": server,
        # Reading the certificate store takes time; without TLS (and redirects) nobody asks it.
        "verify": not server.startswith("http:"),
        "headers": headers,
        "timeout": httpx.Timeout(patience, connect=min(patience, CONNECT_SECONDS)),
    }


def _request(operation: Operation[Any]) -> dict[str, Any]:
    headers = dict(operation.headers)
    if operation.body is not None:
        headers.setdefault("Content-Type", "application/json")
    return {
        "method": operation.method,
        "url": operation.path,
        "params": dict(operation.query),
        "content": operation.body,
        "headers": headers,
    }


def _read(operation: Operation[T], response: httpx.Response) -> T:
    if response.is_error:
        _raise_problem(response)
    if len(response.content) > MAX_ANSWER_BYTES:
        msg = "the server's answer is larger than we read"
        raise UnavailableError(msg)
    try:
        return operation.read(response)
    except (ValidationError, ValueError) as error:
        msg = "the server's answer is not one of Gatekeeper's; is this its address?"
        raise UnavailableError(msg) from error


def _raise_problem(response: httpx.Response) -> None:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = Problem(
            type="about:blank",
            title=response.reason_phrase,
            status=response.status_code,
            code=ErrorCode.INTERNAL_ERROR,
            detail=f"the server answered {response.status_code} without saying why",
            correlation_id=response.headers.get("X-Correlation-ID", ""),
            retryable=False,
        )
    raise ApiError(problem)


def _unreachable(error: httpx.HTTPError, server: str) -> UnavailableError:
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
        return TimedOutError(f"{server} did not answer in time; gk session list shows what it did")
    return ServerUnreachableError(
        f"no answer from {server} ({type(error).__name__}); is it running, is the address right?"
    )
