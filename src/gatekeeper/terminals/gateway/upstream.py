"""A connection to a runner: made, upgraded and checked before a client is answered."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from gatekeeper.terminals.errors import RunnerRejectedError, RunnerUnreachableError
from gatekeeper.terminals.protocol import handshake
from gatekeeper.terminals.protocol.http import HeadReader, Malformed, read_response

if TYPE_CHECKING:
    from gatekeeper.kernel.random import Random

RUNNER_SECONDS: Final = 5.0
"""From the connect to the end of the answer's head."""


class Upstream(NamedTuple):
    """A runner that switched. Its transport is not read; `rest` came behind its head."""

    transport: asyncio.Transport
    rest: bytes


async def connect(
    address: str, *, terminal: str, protocol: str, sealed: str, random: Random
) -> Upstream:
    """Have a runner take a client.

    Raises `RunnerUnreachableError` when it does not answer, or does not have the terminal, and
    `RunnerRejectedError` when its answer is not the one that was asked for.
    """
    key = handshake.new_key(random.bytes(handshake.KEY_BYTES))
    request = handshake.runner_request(terminal=terminal, protocol=protocol, key=key, sealed=sealed)
    opening = _Opening(request)
    try:
        async with asyncio.timeout(RUNNER_SECONDS):
            await _dial(address, opening)
            head, rest = await opening.answer
    except (OSError, TimeoutError, ValueError) as error:
        opening.drop()
        msg = f"the runner does not answer ({type(error).__name__})"
        raise RunnerUnreachableError(msg) from error
    except BaseException:
        opening.drop()
        raise
    answered = read_response(head)
    if not isinstance(answered, Malformed) and answered.status == HTTPStatus.NOT_FOUND:
        # A runner that was restarted; the store knows in seconds that what it held is gone.
        opening.drop()
        msg = "the runner does not have this terminal; whether it is gone is known in seconds"
        raise RunnerUnreachableError(msg)
    fault = (
        "its answer is malformed"
        if isinstance(answered, Malformed)
        else handshake.runner_fault(answered, key=key, protocol=protocol)
    )
    if fault is not None:
        opening.drop()
        msg = f"the runner did not take the client: {fault}"
        raise RunnerRejectedError(msg)
    return Upstream(opening.transport, rest)


async def _dial(address: str, opening: _Opening) -> None:
    """Connect to `unix:/path` or `tcp:host:port`. Raises `OSError`, or `ValueError` for others."""
    loop = asyncio.get_running_loop()
    kind, _, place = address.partition(":")
    if kind == "unix":
        await loop.create_unix_connection(lambda: opening, place)
        return
    host, _, port = place.rpartition(":")
    if kind != "tcp" or not host:
        msg = "no address of a runner"
        raise ValueError(msg)
    await loop.create_connection(lambda: opening, host.strip("[]"), int(port))


class _Opening(asyncio.Protocol):
    """A runner's connection until it has answered."""

    transport: asyncio.Transport

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._reader = HeadReader()
        self.answer: asyncio.Future[tuple[bytes, bytes]] = (
            asyncio.get_running_loop().create_future()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            return
        found = self._reader.feed(data)
        if found is None:
            return
        self.transport.pause_reading()
        if isinstance(found, Malformed):
            self.answer.set_exception(RunnerRejectedError(f"the runner's {found.reason}"))
        else:
            self.answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError())

    def drop(self) -> None:
        if self.answer.done() and not self.answer.cancelled():
            self.answer.exception()  # looked at, so that nobody is told that nobody did
        self.answer.cancel()
        transport = getattr(self, "transport", None)
        if transport is not None:
            transport.abort()
