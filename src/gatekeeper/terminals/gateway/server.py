"""One gateway process on its loop: it listens, serves, and drains when it is told to stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.terminal.closing import CloseCode
from gatekeeper.platform.processes.listening import BACKLOG

if TYPE_CHECKING:
    import socket

    from gatekeeper.terminals.gateway.connection import Gate

log = structlog.get_logger("gatekeeper.gateway")

DRAIN_SECONDS: Final = 5.0
"""For closes to be answered. Whoever is still here then is reset."""
_LOOK_SECONDS: Final = 0.05
_AT_ONCE: Final = 200
"""Closes that are written before the loop does something else."""


class Server:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Serve until told to stop, then drain."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._gate.client, sock=listening, backlog=BACKLOG)
        try:
            await stop.wait()
        finally:
            server.close()
            await self._drain()

    async def _drain(self) -> None:
        """Have every client attach elsewhere."""
        gate = self._gate
        gate.draining = True
        log.info("draining", sockets=len(gate.sessions))
        for client in tuple(gate.opening):
            client.drain()
        until = gate.sessions.loop.time() + DRAIN_SECONDS
        while (len(gate.sessions) or gate.admitting) and gate.sessions.loop.time() < until:
            for number, session in enumerate(gate.sessions.all(), 1):
                session.cut(CloseCode.DRAINING, "this gateway stops; attach again")
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(_LOOK_SECONDS)
        for session in gate.sessions.all():
            session.give_up()
        for client in tuple(gate.opening):
            client.abort()
        gate.sessions.close()
        await asyncio.sleep(0)
