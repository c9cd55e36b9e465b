"""What the two transports of a joined pair tell, handed on to it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Pair(Protocol):
    """A joined pair, as its transports see it."""

    def from_client(self, data: bytes) -> None: ...
    def from_runner(self, data: bytes) -> None: ...
    def client_is_full(self) -> None: ...
    def client_takes_more(self) -> None: ...
    def runner_is_full(self) -> None: ...
    def runner_takes_more(self) -> None: ...
    def client_ends(self) -> None: ...
    def client_gone(self) -> None: ...
    def runner_gone(self) -> None: ...


class ClientSide(asyncio.Protocol):
    """What a client's transport tells."""

    __slots__ = ("_session", "data_received")

    def __init__(self, session: Pair) -> None:
        self._session = session
        self.data_received = session.from_client  # type: ignore[method-assign]  # one call less

    def pause_writing(self) -> None:
        self._session.client_is_full()

    def resume_writing(self) -> None:
        self._session.client_takes_more()

    def eof_received(self) -> bool:
        self._session.client_ends()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        self._session.client_gone()


class RunnerSide(asyncio.Protocol):
    """What a runner's transport tells."""

    __slots__ = ("_session", "data_received")

    def __init__(self, session: Pair) -> None:
        self._session = session
        self.data_received = session.from_runner  # type: ignore[method-assign]

    def pause_writing(self) -> None:
        self._session.runner_is_full()

    def resume_writing(self) -> None:
        self._session.runner_takes_more()

    def eof_received(self) -> bool:
        self._session.runner_gone()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        self._session.runner_gone()
