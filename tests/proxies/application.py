"""The application behind the proxy: what arrives there is what the proxy let through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from proxies.loopback import Loopback, Received, receive

if TYPE_CHECKING:
    import asyncio


class Application(Loopback):
    """Tells each caller what arrived, and keeps it in `received`.

    `/refuses` answers 401 of its own; an upgrade to WebSocket is taken, and messages echoed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Received] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        while True:
            request = await receive(reader, connection)
            self.received.append(request)
            if (request.value("upgrade") or "").lower() == "websocket":
                await _echo(request, reader, writer)
                return
            writer.write(_told(request))
            await writer.drain()


def _told(request: Received) -> bytes:
    told = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "body": len(request.body),
    }
    body = json.dumps(told).encode()
    status = "401 Its Own" if request.target.startswith("/refuses") else "200 OK"
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nserver: application\r\n\r\n"
    )
    return head.encode() + (b"" if request.method == "HEAD" else body)


async def _echo(
    request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    protocol = ServerProtocol()
    data = request.head + b"\r\n"
    while data:
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                protocol.send_text(event.data)
        for part in protocol.data_to_send():
            writer.write(part)
        await writer.drain()
        data = b"" if protocol.close_expected() else await reader.read(65_536)
