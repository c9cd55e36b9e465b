"""`gk serve gateway` as it is run: processes, signals, a store that crashes, and memory."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import unix_serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from factories.gateways import (
    ISSUER,
    KEY,
    Rig,
    Store,
    claims,
    echo,
    prepare,
    published,
    rig,
    sign,
    upgrade,
)
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.processes.listening import free_port
from servers import SETTINGS, binaries

START_SECONDS = 20.0


class Gateway:
    """A gateway in processes of its own."""

    def __init__(
        self, folder: Path, store: Store, keys_url: str, files: str = "", **settings: object
    ) -> None:
        self.port, self.operations = free_port(), free_port()
        wanted = {
            "store_dsn": store.dsn.reveal(), "keys_url": keys_url, "issuer": ISSUER,
            "attach_key_file": str(folder / "attach.key"), "listen_port": self.port,
            "operations_port": self.operations,
        } | settings  # fmt: skip
        config = folder / "gateway.toml"
        config.touch(0o600)
        config.write_text(
            "".join(f"{key} = {json.dumps(value)}\n" for key, value in wanted.items())
        )
        self.log = folder / "gateway.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(["prlimit", f"--nofile={files}"] if files else []),
                    *(sys.executable, "-m", "gatekeeper", "serve", "gateway"),
                    *("--config", str(config)),
                ],
                stderr=log,
                stdout=log,
            )

    async def ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while await asyncio.to_thread(self.ask, "/readyz") != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            await asyncio.sleep(0.05)

    def ask(self, path: str) -> int:
        try:
            return int(self.get(path)[0])
        except OSError:
            return 0

    def get(self, path: str) -> tuple[int, str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.operations}{path}") as answer:
            return answer.status, answer.read().decode()

    def limits(self) -> str:
        return Path(f"/proc/{self.process.pid}/limits").read_text()

    def metric(self, name: str) -> float:
        text = self.get("/metrics")[1]
        found = re.findall(rf"^{re.escape(name)}(?:{{worker=\"\d+\"}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    async def ended(self, seconds: float) -> int:
        return await asyncio.to_thread(self.process.wait, seconds)

    def attach(self, terminal: str, ticket: str) -> connect:
        offered: Any = ["gk.term.v1", f"ticket.{ticket}"]
        return connect(
            f"ws://127.0.0.1:{self.port}/attach/{terminal}",
            subprotocols=offered, compression=None, proxy=None, ping_interval=None,
        )  # fmt: skip


@contextlib.contextmanager
def running(folder: Path, store: Store, keys_url: str, **settings: Any) -> Iterator[Gateway]:
    gateway = Gateway(folder, store, keys_url, **settings)
    try:
        yield gateway
    finally:
        gateway.process.kill()
        gateway.process.wait()


@contextlib.asynccontextmanager
async def runner(folder: Path) -> AsyncIterator[str]:
    path = folder / "runner.sock"
    spoken: Any = ["gk.term.v1"]
    async with unix_serve(echo, str(path), subprotocols=spoken, compression=None):
        yield f"unix:{path}"


async def close_of(client: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as end:
        await client.recv()
    assert end.value.rcvd is not None
    return end.value.rcvd.code


@pytest.mark.parametrize("files", ["300:300", "300:1024"])
async def test_a_flood_of_sockets_takes_no_files_that_others_need(
    store_owner_dsn: str, tmp_path: Path, files: str
) -> None:
    """Systems let a process have 1,024 open at first: fewer than who is silent could take."""
    store = await prepare(store_owner_dsn)
    async with published(KEY) as (url, _), runner(tmp_path) as address:
        with running(tmp_path, store, url, files=files) as gateway:
            await gateway.ready()
            silent = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(350)]
            terminal, instance = store.add(address)
            async with gateway.attach(terminal, sign(claims(terminal, instance))) as client:
                await client.send(b"let in")
                assert await client.recv() == b"let in"
            assert f"Max open files            {files.partition(':')[2]} " in gateway.limits()
            assert "fewer clients than max_sockets" in gateway.log.read_text()
            for _, writer in silent:
                writer.transport.abort()


async def test_sigterm_drains_two_processes_on_one_port(
    store_owner_dsn: str, tmp_path: Path
) -> None:
    store = await prepare(store_owner_dsn)
    async with published(KEY) as (url, _), runner(tmp_path) as address:
        with running(tmp_path, store, url, processes=2) as gateway:
            await gateway.ready()
            clients = []
            for _ in range(24):
                terminal, instance = store.add(address)
                ticket = sign(claims(terminal, instance))
                clients.append(await gateway.attach(terminal, ticket))
            text = (await asyncio.to_thread(gateway.get, "/metrics"))[1]
            shares = re.findall(
                r'^gatekeeper_gateway_sockets{worker="\d"} (\S+)$', text, re.MULTILINE
            )
            assert len(shares) == 2
            assert sum(map(float, shares)) == 24
            assert all(float(share) > 0 for share in shares)
            assert 'gatekeeper_gateway_connects_total{result="accepted"} 24.0' in text
            # One that never reads and never answers must not keep it from ending.
            terminal, instance = store.add(address)
            deaf, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(upgrade(terminal, sign(claims(terminal, instance))))
            await deaf.readuntil(b"\r\n\r\n")
            gateway.process.send_signal(signal.SIGTERM)
            assert {await close_of(client) for client in clients} == {1012}
            assert await gateway.ended(START_SECONDS) == 0
            writer.close()
            log = gateway.log.read_text()
            assert "Traceback" not in log
            assert "Sec-WebSocket-Protocol" not in log
            assert KEY.key_id not in log


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "pg", binaries(18), settings=SETTINGS)
    await server.start()
    yield server
    with contextlib.suppress(Exception):
        await server.stop()


async def test_a_crash_of_the_store_makes_no_ticket_good_again(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    await migrate(Secret(own_server.dsn()))
    store = await prepare(own_server.dsn())
    async with rig(store, tmp_path) as here:
        address, _ = await here.runner()
        terminal, instance = store.add(address)
        used = sign(claims(terminal, instance))
        unused = sign(claims(terminal, instance))
        client = await here.attach(terminal, used)

        pid, port = own_server.pid, own_server.port
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        # Without a store nobody new is let in, and who is there stays.
        await refused_for_now(here, terminal, instance)
        assert await status_of(here.attach(terminal, unused)) == 503
        await client.send(b"still here")
        assert await client.recv() == b"still here"
        await own_server.stop()
        own_server._wanted_port = port
        await own_server.start()
        assert store.run("SELECT * FROM gatekeeper.token_jti") == []

        while await status_of(here.attach(terminal, used)) == 503:
            await asyncio.sleep(0.1)
        # Before anybody began an epoch, and after: what is from before stays refused.
        assert await status_of(here.attach(terminal, used)) == 401
        assert await status_of(here.attach(terminal, unused)) == 401
        store.begin_epoch("another")
        assert await status_of(here.attach(terminal, used)) == 401
        assert await status_of(here.attach(terminal, unused)) == 401
        fresh = sign(claims(terminal, instance, epoch="another"))
        async with here.attach(terminal, fresh) as again:
            await again.send(b"x")
            assert await again.recv() == b"x"
        # And the watcher finds its way back.
        store.move(terminal, "revoked")
        assert await close_of(client) == 4401


async def refused_for_now(here: Rig, terminal: str, instance: str) -> None:
    """Wait until the last children of a killed server are gone."""
    with pytest.raises(InvalidStatus):
        while True:
            async with here.attach(terminal, sign(claims(terminal, instance))):
                await asyncio.sleep(0.05)


async def status_of(attaching: connect) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await attaching
    return int(refused.value.response.status_code)


async def test_a_gateways_login_can_claim_look_up_and_listen_and_no_more(
    store_owner_dsn: str,
) -> None:
    store = await prepare(store_owner_dsn)
    async with await psycopg.AsyncConnection.connect(
        store.dsn.reveal(), autocommit=True
    ) as connection:
        await connection.execute("LISTEN gatekeeper_terminal")
        await connection.execute("SELECT * FROM gatekeeper.terminal_places(ARRAY['x'])")
        for table in ("terminal", "token_jti", "terminal_share", "audit_event", "session"):
            for statement in ("SELECT * FROM {}", "DELETE FROM {}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await connection.execute(statement.format(f"gatekeeper.{table}"))


def private_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(
        int(size)
        for size in re.findall(r"^(?:Private_Clean|Private_Dirty):\s+(\d+) kB", text, re.MULTILINE)
    )


@pytest.mark.slow
async def test_an_idle_pair_costs_a_few_kibibytes(store_owner_dsn: str, tmp_path: Path) -> None:
    store = await prepare(store_owner_dsn)
    async with published(KEY) as (url, _), runner(tmp_path) as address:
        with running(tmp_path, store, url) as gateway:
            await gateway.ready()
            terminal, instance = store.add(address)

            async def attach() -> asyncio.StreamWriter:
                ticket = sign(claims(terminal, instance))
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                writer.write(upgrade(terminal, ticket))
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
                return writer

            async def attach_many(count: int) -> None:
                for _ in range(count // 20):
                    writers.extend(await asyncio.gather(*(attach() for _ in range(20))))

            writers: list[asyncio.StreamWriter] = []
            await attach_many(500)
            before = private_bytes(gateway.process.pid)
            await attach_many(1_500)
            each = (private_bytes(gateway.process.pid) - before) / 1_500
            for writer in writers:
                writer.close()
            assert each < 8_000, each
