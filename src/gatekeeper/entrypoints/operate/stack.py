"""The whole product on this machine: two PostgreSQL servers, a control plane and an agent.

The control plane's store and the target `pg-local` are two servers: roles are shared
by a whole server, and no ephemeral login may ever meet our own tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from gatekeeper import bootstrap
from gatekeeper.entrypoints.operate.children import Child
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Report = Callable[[str, float], None]

TARGET: Final = "pg-local"
SAMPLE_DATABASE: Final = "shop"
AGENT: Final = "local"
CONTROL_PLANE: Final = "control-plane"
READY_SECONDS: Final = 20.0
LEFTOVER_SECONDS: Final = 6.0
"""What a stack that was killed left running ends by itself in this time."""
LOG_LINES: Final = 3

DEVELOPMENT_USERS: Final = (
    {"name": "dana", "email": "dana@example.com", "groups": ["engineering"]},
    {"name": "olga", "email": "olga@example.com", "groups": ["engineering", "operators"]},
)

POLICY: Final = """\
# Who may have which login, where, and for how long. Changes are picked up as you save them.
apiVersion: gatekeeper/v1
kind: Policy
grants:
  - name: engineers-read-and-write-locally
    who: { groups: [engineering] }
    plane: databases
    targets: ["pg-local"]
    roles: [app_read, app_write]
    maxTtl: 1h
  - name: operators-administer-locally
    who: { groups: [operators] }
    plane: databases
    targets: ["pg-local"]
    roles: [app_admin]
    maxTtl: 30m
limits: { sessionsPerPrincipal: 50, requestsPerMinute: 600 }
"""


class InTheWayError(GatekeeperError):
    """Another stack uses the folder, or somebody else a port."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.STATE_CONFLICT, detail)


class Stack:
    """Starts everything in order, keeps it running, and stops it in the reverse order.

    State lives in `home`; started again, it goes on where it was, also after kill -9
    of any or all of its processes.
    """

    def __init__(self, home: Path, *, port: int, agent_port: int, report: Report) -> None:
        self.home = home
        self._port = port
        self._agent_port = agent_port
        self._report = report
        self._undo = contextlib.AsyncExitStack()
        self.target: EmbeddedServer
        self.store: EmbeddedServer
        self.children: list[Child] = []
        self._ready = False
        self._dead: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._undo.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    async def _start(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        resumed = (self.home / "store").exists()
        self._undo.enter_context(_locked(self.home / "lock"))
        for port, option in ((self._port, "--port"), (self._agent_port, "--agent-port")):
            await _until_free(port, option, LEFTOVER_SECONDS if resumed else 0)
        self.store = await self._server("store", "Starting the control plane's own PostgreSQL")
        with self._step("Bringing its tables up to date"):
            store_dsn = await bootstrap.prepare_store(Secret(self.store.dsn("postgres")))
        self.target = await self._server(
            "target", f"Starting the target {TARGET}, a second PostgreSQL"
        )
        with self._step("Setting the target up (schema gk, role packs, sample tables)"):
            agent_dsn = await bootstrap.prepare_sample_target(
                Secret(self.target.dsn("postgres")), SAMPLE_DATABASE
            )
        self._write_settings(agent_dsn, store_dsn)
        with self._step("Starting the agent and the control plane"):
            await self._child("agent")
            await self._child("control-plane")
            await self._until_ready()

    async def _server(self, name: str, saying: str) -> EmbeddedServer:
        with self._step(saying):
            server = EmbeddedServer(self.home / name, find_binaries())
            await self._undo.enter_async_context(server)
        return server

    def _write_settings(self, agent_dsn: Secret, store_dsn: Secret) -> None:
        keys = bootstrap.make_keys(self.home / "keys")
        policy = self.home / "policy.yaml"
        if not policy.exists():
            policy.write_text(POLICY)
        write_toml(self.home / "agent.toml", self._agent_settings(agent_dsn, keys))
        write_toml(self.home / "control-plane.toml", self._control_plane_settings(store_dsn, keys))

    def _agent_settings(self, dsn: Secret, keys: bootstrap.Keys) -> dict[str, Any]:
        return {
            "name": AGENT,
            "listen_port": self._agent_port,
            "key_file": str(keys.agent_file),
            "control_planes": {CONTROL_PLANE: keys.control_plane_public},
            "targets": [{"name": TARGET, "dsn": dsn.reveal(), "owned_objects": "drop"}],
        }

    def _control_plane_settings(self, store_dsn: Secret, keys: bootstrap.Keys) -> dict[str, Any]:
        return {
            "name": CONTROL_PLANE,
            "store_dsn": store_dsn.reveal(),
            "public_url": self.url,
            "listen_port": self._port,
            "key_folder": str(self.home / "keys"),
            "policy": str(self.home / "policy.yaml"),
            "operator_groups": ["operators"],
            "development_users": list(DEVELOPMENT_USERS),
            "agents": {
                AGENT: {
                    "url": f"http://127.0.0.1:{self._agent_port}",
                    "public_key": keys.agent_public,
                }
            },
            "targets": [
                {
                    "name": TARGET,
                    "agent": AGENT,
                    "host": "127.0.0.1",
                    "port": self.target.port,
                    "database": SAMPLE_DATABASE,
                    "sslmode": "disable",
                    "min_ttl_seconds": 1,
                }
            ],
        }

    async def _child(self, role: str) -> None:
        child = Child(
            name=role,
            arguments=["serve", role, "--config", str(self.home / f"{role}.toml")],
            log=self.home / f"{role}.log",
            died=self._died,
        )
        await child.start()
        self._undo.push_async_callback(child.stop)
        self.children.append(child)

    def _died(self, name: str, code: int) -> None:
        self._dead = name
        if self._ready:
            self._report(f"{name} ended with {code}; starting it again", 0)

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline:
                if self._dead is not None:
                    msg = f"{self._dead} did not start: {_last_words(self.home / self._dead)}"
                    raise UnavailableError(msg)
                with contextlib.suppress(httpx.HTTPError):
                    response = await client.get(f"{self.url}/readyz", timeout=2)
                    if response.status_code == httpx.codes.OK:
                        self._ready = True
                        return
                await asyncio.sleep(0.05)
        msg = f"the control plane was not ready in {READY_SECONDS:.0f} s; see {self.home}/*.log"
        raise UnavailableError(msg)

    @contextlib.contextmanager
    def _step(self, saying: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._report(saying, time.monotonic() - began)


async def _until_free(port: int, option: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if time.monotonic() >= deadline:
                    msg = f"port {port} cannot be used ({error.strerror}); choose with {option}"
                    raise InTheWayError(msg) from error
            else:
                return
        await asyncio.sleep(0.1)


def _last_words(place: Path) -> str:
    """Return the end of a process's log, which says why it ended."""
    log = place.with_suffix(".log")
    lines = log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:]
    return "\n  ".join(["", *lines, f"(all of it: {log})"])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go of it when the process ends."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another Gatekeeper runs in {path.parent}; stop it, or choose another --home"
            raise InTheWayError(msg) from error
        os.set_inheritable(file.fileno(), False)
        yield
