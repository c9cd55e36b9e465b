"""The gateway of terminals: what each of its processes runs."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.bootstrap.settings import load_settings
from gatekeeper.bootstrap.terminals.attach_key import attach_key
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.oidc.keysource import RemoteKeys
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.processes.files import allow_files
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.telemetry.logs import configure_logs
from gatekeeper.terminals.gateway.admission import Admission
from gatekeeper.terminals.gateway.claims import Claims
from gatekeeper.terminals.gateway.connection import Gate, Room, room
from gatekeeper.terminals.gateway.counting import Counters
from gatekeeper.terminals.gateway.directory import Directory
from gatekeeper.terminals.gateway.sessions import Sessions
from gatekeeper.terminals.gateway.tickets import TicketVerifier
from gatekeeper.terminals.gateway.watching import CHANNEL, Watcher
from gatekeeper.terminals.gateway.worker import Application
from gatekeeper.terminals.gateway.workers import serve
from gatekeeper.terminals.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

log = structlog.get_logger("gatekeeper.gateway")

NAME: Final = "gatekeeper-gateway"
MAX_CONNECTIONS: Final = 4
"""To the store, of one process, beside the one that listens."""
WAIT_SECONDS: Final = 2.0
"""For a connection to the store: a client may as well try another gateway then."""
REFETCH_SECONDS: Final = 5.0
"""However many tickets with unknown keys arrive, the control plane is asked this often at most."""


def serve_gateway(config: Path) -> int:
    """Serve until told to stop. Raises `InputError` for its settings, or `OSError` for a port."""
    settings = load_settings(GatewaySettings, config)
    configure_logs(settings.log_level, service="gateway")
    operations = (settings.operations_host, settings.operations_port)
    return serve(
        partial(application, config),
        listen=(settings.listen_host, settings.listen_port),
        processes=settings.processes,
        operations=operations if settings.operations_port else None,
    )


@asynccontextmanager
async def application(config: Path) -> AsyncIterator[Application]:
    """Wire one process. It reads the settings itself: no secret is handed to it."""
    settings = load_settings(GatewaySettings, config)
    configure_logs(settings.log_level, service="gateway")
    async with gateway(settings) as wired:
        yield wired


@asynccontextmanager
async def gateway(settings: GatewaySettings) -> AsyncIterator[Application]:
    loop = asyncio.get_running_loop()
    clock, random, counters = SystemClock(), SystemRandom(), Counters()
    pool = Pool(settings.store_dsn, name=NAME, max_size=MAX_CONNECTIONS, wait_seconds=WAIT_SECONDS)
    directory = Directory(pool, now=loop.time)
    keys = RemoteKeys(settings.issuer, settings.keys_url, pause_seconds=REFETCH_SECONDS)
    admission = Admission(
        tickets=TicketVerifier(keys, issuer=settings.issuer, clock=clock),
        directory=directory,
        claims=Claims(pool),
        attach_key=attach_key(settings.attach_key_file),
        clock=clock,
        random=random,
    )
    sessions = Sessions(counters, loop, ping_seconds=settings.ping_seconds)
    gate = Gate(
        admission=admission,
        sessions=sessions,
        counters=counters,
        random=random,
        room=_room(settings.max_sockets),
        head_seconds=settings.head_seconds,
    )
    watcher = Watcher(directory, sessions)
    listener = Listener(settings.store_dsn, CHANNEL, watcher.heard, name=NAME)
    await pool.open()
    try:
        yield Application(gate, watcher, {"watcher": watcher.run, "listener": listener.run})
    finally:
        sessions.close()
        await pool.close()


def _room(wanted: int) -> Room:
    files = allow_files()
    found = room(wanted, files)
    if found.joined < wanted:
        log.warning("fewer clients than max_sockets", room=found.joined, openFiles=files)
    return found
