"""The whole product on this machine: two PostgreSQL servers, a control plane and an agent,
and for terminals a runner and a gateway.

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
from gatekeeper.entrypoints.operate.sample import (
    DEVELOPMENT_USERS,
    POLICY,
    SAMPLE_DATABASE,
    TARGET,
)
from gatekeeper.entrypoints.operate.terminal_parts import TerminalParts
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, UnavailableError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Report = Callable[[str, float], None]

AGENT: Final = "local"
OF_TERMINALS: Final = ("runner", "gateway")
CONTROL_PLANE: Final = "control-plane"
READY_SECONDS: Final = 20.0
LEFTOVER_SECONDS: Final = 6.0
"""What a stack that was killed left running ends by itself in this time."""
LOG_LINES: Final = 3


class InTheWayError(GatekeeperError):
    """Another stack uses the folder, or somebody else a port."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.STATE_CONFLICT, detail)


class Stack:
    """Starts everything in order, keeps it running, and stops it in the reverse order.

    State lives in `home`; started again, it goes on where it was, also after kill -9
    of any or all of its processes.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int,
        agent_port: int,
        gateway_port: int | None = None,
        report: Report,
    ) -> None:
        """Without a port for a gateway there are no terminals."""
        self.home = home
        self._port = port
        self._agent_port = agent_port
        self._report = report
        self._undo = contextlib.AsyncExitStack()
        self.target: EmbeddedServer
        self.store: EmbeddedServer
        self.children: list[Child] = []
        self._parts = (
            None
            if gateway_port is None
            else TerminalParts(home=home, url=self.url, gateway_port=gateway_port)
        )
        self.without_terminals: str | None = None
        """Why this machine has none, if that is so."""
        self._ready = False
        self._dead: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._undo.aclose()
            raise
        self._ready = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    async def _start(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        resumed = (self.home / "store").exists()
        self._undo.enter_context(_locked(self.home / "lock"))
        for port, option in self._ports():
            await _until_free(port, option, LEFTOVER_SECONDS if resumed else 0)
        self.store = await self._server("store", "Starting the control plane's own PostgreSQL")
        with self._step("Bringing its tables up to date"):
            owner = Secret(self.store.dsn("postgres"))
            store_dsn = await bootstrap.prepare_store(owner)
        self.target = await self._server(
            "target", f"Starting the target {TARGET}, a second PostgreSQL"
        )
        with self._step("Setting the target up (schema gk, role packs, sample tables)"):
            agent_dsn = await bootstrap.prepare_sample_target(
                Secret(self.target.dsn("postgres")), SAMPLE_DATABASE
            )
        keys = bootstrap.make_keys(self.home / "keys")
        self._write_settings(keys, agent_dsn, store_dsn)
        if self._parts is None:
            with self._step("Starting the agent and the control plane"):
                await self._children("agent", "control-plane")
                await self._until_ready()
            return
        await self._write_terminal_settings(self._parts, keys, owner)
        with self._step("Starting agent, control plane, runner and gateway"):
            await self._children("agent", "control-plane", *OF_TERMINALS)
            await self._until_ready()
            await self._until_terminals(self._parts)

    def _ports(self) -> list[tuple[int, str]]:
        gateway = [] if self._parts is None else [(self._parts.gateway_port, "--gateway-port")]
        return [(self._port, "--port"), (self._agent_port, "--agent-port"), *gateway]

    async def _server(self, name: str, saying: str) -> EmbeddedServer:
        with self._step(saying):
            server = EmbeddedServer(self.home / name, find_binaries())
            await self._undo.enter_async_context(server)
        return server

    async def _write_terminal_settings(
        self, parts: TerminalParts, keys: bootstrap.Keys, owner: Secret
    ) -> None:
        self._undo.callback(parts.clear)
        parts.socket.unlink(missing_ok=True)  # what an earlier one left does not mean ready
        gateway_dsn = await bootstrap.prepare_gateway_login(owner)
        write_toml(self.home / "runner.toml", parts.of_runner(keys, CONTROL_PLANE))
        write_toml(self.home / "gateway.toml", parts.of_gateway(keys, gateway_dsn))

    def _write_settings(self, keys: bootstrap.Keys, agent_dsn: Secret, store_dsn: Secret) -> None:
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
            **({} if self._parts is None else {"terminals": self._parts.of_plane(keys)}),
        }

    async def _children(self, *roles: str) -> None:
        for role in roles:
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
        self._dead.append(name)
        if self._ready:
            self._report(f"{name} ended with {code}; starting it again", 0)

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline:
                for name in set(self._dead) - set(OF_TERMINALS):
                    msg = f"{name} did not start: {_last_words(self.home / name)}"
                    raise UnavailableError(msg)
                with contextlib.suppress(httpx.HTTPError):
                    response = await client.get(f"{self.url}/readyz", timeout=2)
                    if response.status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(0.05)
        msg = f"the control plane was not ready in {READY_SECONDS:.0f} s; see {self.home}/*.log"
        raise UnavailableError(msg)

    async def _until_terminals(self, parts: TerminalParts) -> None:
        """Wait for runner and gateway; where one refuses to start, go on without either."""
        deadline = time.monotonic() + READY_SECONDS
        while not await parts.are_ready():
            dead = next((name for name in OF_TERMINALS if name in self._dead), None)
            if dead is not None or time.monotonic() > deadline:
                said = "not ready" if dead is None else _last_words(self.home / dead)
                self.without_terminals = f"{dead or OF_TERMINALS[0]} did not start: {said}"
                for child in [child for child in self.children if child.name in OF_TERMINALS]:
                    await child.stop()
                    self.children.remove(child)
                return
            await asyncio.sleep(0.05)

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
