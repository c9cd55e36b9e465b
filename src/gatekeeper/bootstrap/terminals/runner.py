"""A runner, wired: terminals on this machine behind signed orders, and what it tells of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import httpx
import structlog
import uvicorn
import uvloop

from gatekeeper import __version__
from gatekeeper.bootstrap.terminals.attach_key import attach_key
from gatekeeper.bootstrap.terminals.runner_parts import fetch_from, make_door
from gatekeeper.kernel import ids
from gatekeeper.kernel.backoff import Backoff
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import MAX_ENVELOPE_CHARS, ReplayGuard
from gatekeeper.platform.crypto.signing import SigningKey, public_key
from gatekeeper.platform.http.app import make_app
from gatekeeper.platform.processes.files import allow_files
from gatekeeper.platform.random import SystemRandom
from gatekeeper.platform.tasks import Supervisor
from gatekeeper.terminals.runner.counting import Counters
from gatekeeper.terminals.runner.equipment import Equipment
from gatekeeper.terminals.runner.host import Host
from gatekeeper.terminals.runner.metrics import RunnerMetrics
from gatekeeper.terminals.runner.orders import Orders
from gatekeeper.terminals.runner.reports import Reporter
from gatekeeper.terminals.runner.sandbox import choose, discard
from gatekeeper.terminals.runner.web import (
    MAX_MESSAGE_BYTES,
    Admission,
    RunnerApp,
    order_routes,
)
from gatekeeper.terminals.settings import RunnerSettings  # noqa: TC001  # had from here
from gatekeeper.wire.runner import ORDERS_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from fastapi import FastAPI

    from gatekeeper.terminals.runner.sandbox import Sandbox

    Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

log = structlog.get_logger("gatekeeper.runner")

SOCKET: Final = "runner.sock"
GRACE_SECONDS: Final = 3
"""For requests that are on their way, after the terminals ended."""
LAST_REPORT_SECONDS: Final = 2.0
PING_SECONDS: Final = 20.0
MOST_PAUSE_SECONDS: Final = 5.0
"""Between reports while the control plane is away."""
_MAX_PATH_BYTES: Final = 100
"""Of a unix socket's path; the kernel takes 107."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """The application, and the parts that tests look at."""

    app: RunnerApp
    host: Host
    reporter: Reporter
    socket: Path


def run_runner(settings: RunnerSettings) -> None:
    """Serve until told to stop. Raises `GatekeeperError` where there is no sandbox to be had."""
    tier = choose(allow_unsandboxed=settings.allow_unsandboxed)
    if tier.name == "none":
        log.warning("terminals run WITHOUT a sandbox on this machine")
    allow_files()  # each client takes one, each connection to a database two
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve_runner(settings, tier))


async def serve_runner(
    settings: RunnerSettings,
    sandbox: Sandbox,
    *,
    reports: httpx.AsyncBaseTransport | None = None,
    ready: Callable[[RunnerServer], None] = lambda _server: None,
) -> None:
    """Serve until told to stop; then end every terminal."""
    prepare_folders(settings)
    runner = wire_runner(settings, sandbox, reports)
    listening = _listen(runner.socket)
    server = RunnerServer(_server_config(runner.app), runner)
    ready(server)
    try:
        await server.serve(sockets=[listening])
    finally:
        listening.close()
        runner.socket.unlink(missing_ok=True)


def prepare_folders(settings: RunnerSettings) -> None:
    """Make the folders, and remove what an earlier life left behind."""
    for folder in (settings.folder, settings.recordings):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            msg = f"{folder}: expected a folder of its own, which nobody else owns"
            raise InputError(msg)
    settings.folder.chmod(0o700)
    discard(settings.folder / "work")
    (settings.folder / "work").mkdir(mode=0o700)


def wire_runner(
    settings: RunnerSettings, sandbox: Sandbox, reports: httpx.AsyncBaseTransport | None
) -> Runner:
    """Wire a runner around a sandbox; its loop has to run. Reports go out over a transport."""
    key = SigningKey.load(settings.key_file).private
    planes = {name: public_key(jwk) for name, jwk in settings.control_planes.items()}
    clock, random, seen = SystemClock(), SystemRandom(), ReplayGuard()
    path, counters = settings.folder / SOCKET, Counters()
    host = Host(
        folder=settings.folder,
        recordings=settings.recordings,
        address=f"unix:{path}",
        capacity=settings.capacity,
        equipment=Equipment(
            sandbox=sandbox,
            fetch=fetch_from(settings),
            counters=counters,
            redact=settings.redact,
            wake=lambda: reporter.wake(),  # noqa: PLW0108  # made after this
            timestamp=lambda: int(clock.now().timestamp()),
        ),
        make_door=partial(make_door, roots=settings.database_certificates),
    )
    reporter = _reporter(settings, host, key=key, planes=planes, seen=seen, transport=reports)
    orders = Orders(
        host,
        name=settings.name,
        key=key,
        control_planes={name: (key,) for name, key in planes.items()},
        seen=seen,
        clock=clock,
        random=random,
    )
    admission = Admission(
        host, key=attach_key(settings.attach_key_file), seen=ReplayGuard(), clock=clock
    )
    http = make_app(
        title="Gatekeeper runner",
        version=__version__,
        random=random,
        lifespan=_reporting(reporter, host),
        body_limits={ORDERS_PATH: MAX_ENVELOPE_CHARS["job"]},
    )
    metrics = RunnerMetrics(host, counters, lambda: reporter.answered_ago)
    http.include_router(order_routes(orders, host, metrics))
    return Runner(app=RunnerApp(http, admission), host=host, reporter=reporter, socket=path)


def _reporter(
    settings: RunnerSettings,
    host: Host,
    *,
    key: Ed25519PrivateKey,
    planes: Mapping[str, Ed25519PublicKey],
    seen: ReplayGuard,
    transport: httpx.AsyncBaseTransport | None,
) -> Reporter:
    random = SystemRandom()
    control_plane = next(iter(planes))
    return Reporter(
        host,
        url=settings.control_plane_url,
        name=settings.name,
        boot=ids.instance_id(random.bytes(ids.RANDOM_BYTES)),
        key=key,
        control_plane=control_plane,
        trusted=(planes[control_plane],),
        seen=seen,
        backoff=Backoff(most=MOST_PAUSE_SECONDS),
        clock=SystemClock(),
        random=random,
        client=httpx.AsyncClient(transport=transport, trust_env=False),
    )


def _reporting(reporter: Reporter, host: Host) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        supervisor = Supervisor(failed=lambda _name: None)
        supervisor.start_again("reports", reporter.run)
        try:
            yield
        finally:
            await host.stop()
            await supervisor.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_REPORT_SECONDS):
                    await reporter.report()
            await reporter.close()

    return lifespan


class RunnerServer(uvicorn.Server):
    """Ends the terminals first: their clients are told, and go."""

    def __init__(self, config: uvicorn.Config, runner: Runner) -> None:
        super().__init__(config)
        self.runner = runner

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and end as what was told to, not as what was killed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.runner.host.stop()
        await super().shutdown(sockets)


def _server_config(app: RunnerApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _listen(path: Path) -> socket.socket:
    """Listen where only this user may connect; whoever listened there before is gone."""
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        msg = f"{path}: a socket's path has at most {_MAX_PATH_BYTES} bytes; choose another folder"
        raise InputError(msg)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(draft))
    finally:
        os.umask(before)
    listening.listen(1024)
    draft.replace(path)  # whoever finds it is heard
    listening.setblocking(False)  # noqa: FBT003  # its only way
    return listening
