"""A whole Gatekeeper for these tests: real processes over real servers, and a caller's view of it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from acceptance.faults.processes import Prepare, Process, Role
from factories.installation import (
    AGENT,
    TARGET,
    agent_settings,
    control_plane_settings,
    issuer_key,
    policy,
    target_settings,
    token,
)
from gatekeeper import bootstrap
from gatekeeper.client import operations
from gatekeeper.client.api import ApiError, AsyncClient, Operation
from gatekeeper.client.evidence import verify_lines
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel import scram
from gatekeeper.kernel.errors import GatekeeperError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries
from gatekeeper.platform.processes.listening import free_port
from gatekeeper.wire import sessions as wire
from gatekeeper.wire.problems import Problem

T = TypeVar("T")

PATIENCE: Final = 180.0
"""Seconds that nothing needs when all is well, on a machine that has other things to do."""
FAST: Final = {"fsync": "off", "full_page_writes": "off"}
POLICY: Final = policy(roles="app_read, app_write", sessions=100_000, requests=1_000_000)


@dataclass(frozen=True)
class PreparedTarget:
    """A server that is a target, and the login its agent uses."""

    server: EmbeddedServer
    agent_dsn: Secret

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return await rows(self.server.dsn("shop"), query, *values)


@dataclass
class Login:
    """A session as its caller has it: the password was made here."""

    session: str
    username: str
    dsn: str


@dataclass
class Stack:
    """Control planes and an agent. `api` is where its callers go: the first control plane."""

    folder: Path
    store: str
    target: PreparedTarget
    planes: list[Process]
    ports: list[int]
    agent: Process
    agent_port: int
    deaths: list[tuple[Role, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """What callers were told instead of an answer."""
    clients: dict[tuple[str, int], AsyncClient] = field(default_factory=dict)

    @property
    def processes(self) -> list[Process]:
        return [self.agent, *self.planes]

    def url(self, plane: int = 0) -> str:
        return f"http://127.0.0.1:{self.ports[plane]}"

    async def call(self, operation: Operation[T], name: str = "dana", plane: int = 0) -> T:
        try:
            return await self.client(name, plane).call(operation)
        except ApiError as error:
            self.problems.append(error.problem)
            raise

    def client(self, name: str = "dana", plane: int = 0) -> AsyncClient:
        """Return a client for somebody: one for each, for making one is dear."""
        if (name, plane) not in self.clients:
            groups = ["eng", "operators"] if name == "olga" else ["eng"]
            known = token(issuer_key(self.folder), name, *groups)
            self.clients[name, plane] = AsyncClient(
                self.url(plane), known, correlation_id="cor_test"
            )
        return self.clients[name, plane]

    async def stop(self) -> None:
        for client in self.clients.values():
            await client.__aexit__()
        for process in self.processes:
            if process.exit_code is None:
                process.stop()

    async def ready(self) -> None:
        async def up() -> bool:
            for plane in range(len(self.planes)):
                await self.client(plane=plane).call(operations.readiness())
            return await _listens(self.agent_port)

        await eventually(up, "the stack is ready", self.last_words)

    def last_words(self) -> list[str]:
        """Return the ends of the logs of those that died."""
        return [p.log.read_text()[-2000:] for p in self.processes if p.exit_code is not None]

    async def create(
        self,
        *,
        ttl: str = "10m",
        reason: str = "",
        key: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Login:
        """Ask until there is an answer, with one idempotency key, as every client should."""
        password = scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
        verifier = scram.make_verifier(password, secrets.token_bytes(scram.SALT_BYTES), 64)
        body = wire.CreateSession.model_validate(
            {
                "target": TARGET, "role": "app_write", "ttl": ttl, "reason": reason,
                "credential": {"kind": "scram-sha-256", "verifier": verifier},
            }
        )  # fmt: skip
        key = key or secrets.token_hex(8)
        operation = operations.create_session(body, idempotency_key=key, wait=5)
        operation = replace(operation, headers={**operation.headers, **headers})
        planes, view = cycle(range(len(self.planes))), None

        async def ready() -> wire.SessionView | None:
            nonlocal view
            view = await self.call(operation, plane=next(planes))
            return view if view.status == "ready" else None

        made = await eventually(ready, "the session is ready", lambda: view)
        assert made.username is not None
        dsn = make_conninfo(
            self.target.server.dsn("shop"), user=made.username, password=password.reveal()
        )
        return Login(made.session_id, made.username, dsn)

    async def revoke(self, session: str) -> None:
        async def done() -> bool:
            return await self.call(operations.revoke_session(session)) is not None

        await eventually(done, "the revocation is answered")

    async def reach(self, session: str, status: str = "cleaned") -> wire.SessionView:
        view: wire.SessionView | None = None

        async def there() -> wire.SessionView | None:
            nonlocal view
            view = await self.call(operations.get_session(session))
            return view if view.status == status else None

        found = await eventually(there, f"the session is {status}", lambda: view)
        assert isinstance(found, wire.SessionView)
        return found

    async def events(self, session: str) -> list[str]:
        """Return what the chain says of a session, once nothing waits for its place in it."""

        async def sequenced() -> bool:
            return await rows(self.store, "SELECT count(*) FROM gatekeeper.audit_outbox") == [(0,)]

        await eventually(sequenced, "every event has its place")
        found = await rows(
            self.store,
            "SELECT kind FROM gatekeeper.audit_event WHERE session_id = %s ORDER BY seq",
            session,
        )
        return [kind for (kind,) in found]

    async def assert_chain_is_whole(self) -> None:
        async with self.client("olga").stream(operations.audit_export()) as lines:
            report = verify_lines([line.encode() async for line in lines])
        assert report.broken is None
        assert report.events

    async def assert_gone(self, login: Login) -> None:
        """Nothing of the login is left at the target, and it cannot be made again."""
        assert await self.target.rows(
            "SELECT count(*) FROM pg_roles WHERE rolname = %s", login.username
        ) == [(0,)]
        assert await self.target.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", login.username
        ) == [(0,)]
        assert await self.target.rows(
            "SELECT ended_at IS NOT NULL FROM gk.login WHERE name = %s", login.username
        ) == [(True,)]
        with pytest.raises(psycopg.OperationalError):
            await rows(login.dsn, "SELECT 1")

    async def keep_running(self) -> None:
        """Start again whatever died, as an init system would, and note how it died."""
        while True:
            for process in self.processes:
                if (code := process.exit_code) is not None:
                    self.deaths.append((process.role, code))
                    process.start()
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(
    folder: Path,
    store: str,
    target: PreparedTarget,
    *,
    planes: int = 1,
    prepare: Sequence[Prepare] = (),
) -> AsyncIterator[Stack]:
    """Run a stack over a store and a target; nothing of it is left at the end."""
    keys = bootstrap.make_keys(folder / "keys")
    issuer_key(folder)
    (folder / "policy.yaml").write_text(POLICY)
    ports, agent_port = [free_port() for _ in range(planes)], free_port()
    write_toml(
        folder / "agent.toml", agent_settings(keys, target.agent_dsn, listen_port=agent_port)
    )
    agent = {"url": f"http://127.0.0.1:{agent_port}", "public_key": keys.agent_public}
    for number, port in enumerate(ports):
        settings = control_plane_settings(
            folder,
            store,
            listen_port=port,
            agents={AGENT: agent},
            targets=[target_settings(target.server)],
        )
        write_toml(folder / f"plane-{number}.toml", settings)
    stack = Stack(
        folder=folder, store=store, target=target, ports=ports, agent_port=agent_port,
        planes=[
            Process("control-plane", folder / f"plane-{n}.toml", prepare) for n in range(planes)
        ],
        agent=Process("agent", folder / "agent.toml", prepare),
    )  # fmt: skip
    for process in stack.processes:
        process.start()
    try:
        await stack.ready()
        yield stack
    finally:
        await stack.stop()


async def prepared_target(
    folder: Path, kind: type[EmbeddedServer] = EmbeddedServer, **settings: str
) -> PreparedTarget:
    """Start a server and make it a target; whoever asked for it stops it."""
    server = kind(
        folder / "target", find_binaries(), port=free_port(), settings={**FAST, **settings}
    )
    await server.start()
    return PreparedTarget(
        server, await bootstrap.prepare_sample_target(Secret(server.dsn()), "shop")
    )


_stores = count(1)


@contextmanager
def fresh_store(admin: psycopg.Connection, server: EmbeddedServer) -> Iterator[str]:
    """Give the DSN of a migrated store of its own."""
    name = f"faults_{next(_stores)}"
    admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE gk_template").format(sql.Identifier(name)))
    try:
        yield server.dsn(name)
    finally:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def eventually(
    ask: Callable[[], Awaitable[Any]],
    what: str,
    last: Callable[[], object] = lambda: None,
    *,
    patience: float = PATIENCE,
) -> Any:
    """Ask until the answer is true. What a dying process says meanwhile is no answer."""
    deadline = time.monotonic() + patience
    failure: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if found := await ask():
                return found
        except (GatekeeperError, psycopg.OperationalError) as error:
            failure = error
        await asyncio.sleep(0.05)
    msg = f"not in {patience:.0f} s: {what}; last {last()!r}"
    raise AssertionError(msg) from failure


async def rows(dsn: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(query.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def _listens(port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True
