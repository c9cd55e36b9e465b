"""What the two transports of a joined pair tell, handed on to it.

Both read into the one buffer of all sessions. `data_received` is there to be nothing: uvloop keeps
that of the protocol before, and all that hangs on it, of a transport whose protocol has none.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Pair(Protocol):
    """A joined pair, as its transports see it."""

    @property
    def buffer(self) -> memoryview: ...
    def from_client(self, data: memoryview) -> None: ...
    def from_runner(self, data: memoryview) -> None: ...
    def client_is_full(self) -> None: ...
    def client_takes_more(self) -> None: ...
    def runner_is_full(self) -> None: ...
    def runner_takes_more(self) -> None: ...
    def client_ends(self) -> None: ...
    def client_gone(self) -> None: ...
    def runner_gone(self) -> None: ...


class ClientSide(asyncio.BufferedProtocol):
    """What a client's transport tells."""

    __slots__ = ("_buffer", "_session")
    data_received = None

    def __init__(self, session: Pair) -> None:
        self._session = session
        self._buffer = session.buffer

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._session.from_client(self._buffer[:nbytes])

    def pause_writing(self) -> None:
        self._session.client_is_full()

    def resume_writing(self) -> None:
        self._session.client_takes_more()

    def eof_received(self) -> bool:
        self._session.client_ends()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        self._session.client_gone()


class RunnerSide(asyncio.BufferedProtocol):
    """What a runner's transport tells."""

    __slots__ = ("_buffer", "_session")
    data_received = None

    def __init__(self, session: Pair) -> None:
        self._session = session
        self._buffer = session.buffer

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._session.from_runner(self._buffer[:nbytes])

    def pause_writing(self) -> None:
        self._session.runner_is_full()

    def resume_writing(self) -> None:
        self._session.runner_takes_more()

    def eof_received(self) -> bool:
        self._session.runner_gone()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        self._session.runner_gone()
