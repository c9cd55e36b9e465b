"""One WebSocket of the runner, as its ASGI server hands it over."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from gatekeeper.kernel.terminal.closing import reason_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from gatekeeper.kernel.terminal.closing import CloseCode


class Gone(Exception):  # noqa: N818  # nothing went wrong
    """The client is not there any more."""


class Socket:
    """One WebSocket, as its ASGI server hands it over."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        self._receive = receive
        self._send = send

    async def read(self) -> bytes | str:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise Gone
        data = message.get("bytes")
        return data if isinstance(data, bytes) else str(message.get("text") or "")

    async def write(self, message: bytes | str) -> None:
        kind = "bytes" if isinstance(message, bytes) else "text"
        try:
            await self._send({"type": "websocket.send", kind: message})
        except OSError as error:
            raise Gone from error

    async def close(self, code: CloseCode, reason: str) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            await self._send(
                {
                    "type": "websocket.close",
                    "code": int(code),
                    "reason": reason_bytes(reason).decode(),
                }
            )
