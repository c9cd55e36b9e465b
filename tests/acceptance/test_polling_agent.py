"""Two control planes on one store and an agent that only dials out, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
import psycopg
import pytest

from factories.installation import (
    AGENT,
    agent_settings,
    control_plane_settings,
    database,
    issuer_key,
    policy,
    request,
    target_settings,
    token,
)
from gatekeeper import bootstrap
from gatekeeper.client import operations
from gatekeeper.client.api import Client
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.processes.listening import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatekeeper.platform.postgres.embedded import EmbeddedServer

PATIENCE_SECONDS: Final = 60.0
POLICY: Final = policy(sessions=100, requests=10_000)


class Front(socketserver.ThreadingTCPServer):
    """One address before any number of servers: each connection goes to the next one alive."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.ports: list[int] = []
        self.turn = 0

    def connect(self) -> socket.socket | None:
        for _ in self.ports:
            self.turn += 1
            with contextlib.suppress(OSError):
                return socket.create_connection(
                    ("127.0.0.1", self.ports[self.turn % len(self.ports)])
                )
        return None


class _Relay(socketserver.BaseRequestHandler):
    server: Front

    def handle(self) -> None:
        server = self.server.connect()
        if server is None:
            return
        back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
        back.start()
        _pump(self.request, server)
        back.join()
        server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@dataclass
class Process:
    """A `gk serve` that can be killed and started again."""

    role: str
    config: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.config.with_suffix(".log").open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-m", "gatekeeper", "serve", self.role, "--config", self.config],
                stdout=log,
                stderr=log,
                env={name: v for name, v in os.environ.items() if not name.startswith("PG")},
            )

    def log(self) -> str:
        return self.config.with_suffix(".log").read_text()

    def end(self, number: int) -> int:
        assert self.running is not None
        self.running.send_signal(number)
        return self.running.wait(PATIENCE_SECONDS)


@dataclass
class Installation:
    folder: Path
    front: Front
    server: EmbeddedServer
    agent: Process
    urls: list[str] = field(default_factory=list)
    planes: list[Process] = field(default_factory=list)

    def client(self, plane: int) -> Client:
        known = token(issuer_key(self.folder), "dana", "eng")
        return Client(self.urls[plane], known, correlation_id="cor_test")

    def ask(self, plane: int, ttl: str = "5m") -> str:
        operation = operations.create_session(
            request(ttl=ttl), idempotency_key=secrets.token_hex(8)
        )
        with self.client(plane) as client:
            return client.call(operation).session_id

    def end(self, plane: int, session: str) -> None:
        with self.client(plane) as client:
            client.call(operations.revoke_session(session))
        self.until(plane, session, "cleaned")

    def until(self, plane: int, session: str, status: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.client(plane) as client:
            while (found := client.call(operations.get_session(session))).status != status:
                assert time.monotonic() < deadline, found
                time.sleep(0.05)

    def until_ready(self, plane: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.urls[plane]}/readyz").status_code == httpx.codes.OK:
                    return
            assert time.monotonic() < deadline, self.planes[plane].log()
            time.sleep(0.05)

    def logins(self) -> int:
        """Count those that are there of our own sessions: others use the server too."""
        with psycopg.connect(self.server.dsn("polling_store")) as store:
            row = store.execute(
                "SELECT count(*) FROM pg_roles JOIN gatekeeper.session ON rolname = username"
            ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def installation(
    server_18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("polling")
    with database(server_18, "polling_store") as store, Front() as front:
        asyncio.run(migrate(Secret(store)))
        agent_dsn = asyncio.run(bootstrap.prepare_sample_target(Secret(server_18.dsn()), "shop"))
        keys = bootstrap.make_keys(folder / "keys")
        (folder / "policy.yaml").write_text(POLICY)
        threading.Thread(target=front.serve_forever, daemon=True).start()
        made = Installation(folder, front, server_18, _agent(folder, front, keys, agent_dsn))
        for number in range(2):
            made.planes.append(_plane(store, number, keys, made))
        everything = [*made.planes, made.agent]
        try:
            for process in everything:
                process.start()
            for number in range(2):
                made.until_ready(number)
            yield made
        finally:
            for process in everything:
                process.end(signal.SIGKILL)
            front.shutdown()


def _agent(folder: Path, front: Front, keys: bootstrap.Keys, dsn: Secret) -> Process:
    write_toml(
        folder / "agent.toml",
        agent_settings(
            keys,
            dsn,
            mode="poll",
            poll_interval_ms=100,
            control_plane_url=f"http://127.0.0.1:{front.server_address[1]}",
        ),
    )
    return Process("agent", folder / "agent.toml")


def _plane(store: str, number: int, keys: bootstrap.Keys, made: Installation) -> Process:
    port = free_port()
    made.front.ports.append(port)
    made.urls.append(f"http://127.0.0.1:{port}")
    config = made.folder / f"control-plane-{number}.toml"
    write_toml(
        config,
        control_plane_settings(
            made.folder,
            store,
            listen_port=port,
            agents={AGENT: {"mode": "poll", "public_key": keys.agent_public}},
            targets=[target_settings(made.server)],
        ),
    )
    return Process("control-plane", config)


def test_sessions_of_either_control_plane_become_ready_and_end(installation: Installation) -> None:
    sessions = [installation.ask(plane) for plane in (0, 1, 0, 1)]
    for number, session in enumerate(sessions):
        installation.until(number % 2, session, "ready")
    assert installation.logins() == len(sessions)

    for number, session in enumerate(sessions):
        installation.end((number + 1) % 2, session)
    installation.until(0, installation.ask(0, ttl="1s"), "cleaned")

    assert installation.logins() == 0


def test_a_control_plane_that_is_killed_takes_nobody_with_it(installation: Installation) -> None:
    session = installation.ask(0)
    installation.until(1, session, "ready")

    installation.planes[0].end(signal.SIGKILL)
    installation.end(1, session)
    more = installation.ask(1)
    installation.until(1, more, "ready")
    installation.end(1, more)

    installation.planes[0].start()
    installation.until_ready(0)
    assert installation.logins() == 0


def test_an_agent_that_is_killed_is_waited_for(installation: Installation) -> None:
    ready = installation.ask(0)
    installation.until(0, ready, "ready")

    installation.agent.end(signal.SIGKILL)
    pending = installation.ask(1)
    installation.agent.start()

    installation.until(1, pending, "ready")
    installation.end(0, pending)
    installation.end(1, ready)
    assert installation.logins() == 0


def test_a_stop_is_in_order_and_holds_nobody_up(installation: Installation) -> None:
    installation.until(0, installation.ask(0, ttl="1s"), "cleaned")

    # A control plane does not wait for the polls of agents: they are answered, with nothing.
    assert installation.planes[0].end(signal.SIGTERM) in {0, -signal.SIGTERM}
    assert "timeout graceful shutdown exceeded" not in installation.planes[0].log()

    # An agent without work goes at once, though its poll waits at the other control plane.
    assert installation.agent.end(signal.SIGTERM) == 0
    assert "Traceback" not in installation.agent.log()
