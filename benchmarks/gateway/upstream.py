"""A runner that only echoes: `python -m benchmarks.gateway.upstream SOCKET`.

It switches, then sends every frame back; a frame that begins with `f` and a number in ASCII is
answered with so many frames of 64 KiB, as fast as they are taken.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys

import uvloop

FLOOD = b"\x82\x7e\xff\xff" + bytes(65_535)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Echo(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._switched = False
        self._owed = 0
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._switched:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._transport.write(_answer(head))
            self._switched, self._buffer = True, rest
        while len(self._buffer) >= 6:
            size = self._buffer[1] & 0x7F
            if len(self._buffer) < 6 + size:
                return
            payload, self._buffer = self._buffer[6 : 6 + size], self._buffer[6 + size :]
            if payload.startswith(b"f"):
                self._owed += int(payload[1:])
                self._flood()
            else:
                self._transport.write(bytes((0x82, size)) + payload)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._flood()

    def _flood(self) -> None:
        while self._owed and not self._full and not self._transport.is_closing():
            self._owed -= 1
            self._transport.write(FLOOD)


def _answer(head: bytes) -> bytes:
    fields = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    digest = hashlib.sha1(fields[b"sec-websocket-key"] + _GUID, usedforsecurity=False).digest()
    protocol = fields.get(b"sec-websocket-protocol", b"gk.term.v1").partition(b",")[0]
    return b"\r\n".join(
        [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest),
            b"Sec-WebSocket-Protocol: " + protocol,
            b"\r\n",
        ]
    )


async def main(path: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(Echo, path, backlog=4_096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
