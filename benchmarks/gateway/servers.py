"""What is measured: each proxies the same upstream, in one process on one core."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import psycopg
from joserfc import jwt
from joserfc.jwk import RSAKey
from psycopg.conninfo import make_conninfo

from benchmarks.gateway.stand_in import INSTANCE
from gatekeeper.kernel import ids
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.postgres.embedded import EmbeddedServer, find_binaries
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.postgres.roles import GATEWAY, allow_login
from gatekeeper.platform.processes.listening import free_port
from gatekeeper.terminals.protocol import ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES: Final = ("nginx", "haproxy", "gateway", "gateway, no store")
ISSUER: Final = "http://127.0.0.1:1"
SERVER_CORE: Final = "0"
LOAD_CORE: Final = str((os.cpu_count() or 1) - 1)
START_SECONDS: Final = 30.0
_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
_EPOCH: Final = "bench"

_NGINX: Final = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;
events {{ worker_connections {connections}; }}
http {{
    access_log off; proxy_temp_path {folder}/p; client_body_temp_path {folder}/b;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://unix:{path}; proxy_http_version 1.1; proxy_buffer_size 8k;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
            proxy_read_timeout 1h; proxy_send_timeout 1h;
        }}
    }}
}}
"""
_HAPROXY: Final = """
global
    nbthread 1
    maxconn {most}
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
listen all
    bind 127.0.0.1:{port} backlog 4096
    server runner unix@{path} maxconn {most}
"""
_TERMINAL: Final = """
INSERT INTO gatekeeper.terminal (id, status, requester, principal, runner, instance, address,
    profile, command, shell, columns, rows, reason, grant_name, ttl, max_ttl, correlation_id,
    expires_at)
SELECT id, 'ready', 'dana', '{}', 'local', instance, %s, 'shell', '[]', false, 80, 24, '', 'g',
    '1h', '1h', 'c', clock_timestamp() + interval '1 day'
FROM unnest(%s::text[], %s::text[]) AS wanted (id, instance)
"""


@dataclass
class Proxy:
    name: str
    port: int
    pid: int
    request: Callable[[], bytes]
    """Makes the request of one more client."""


@dataclass
class Ground:
    """What all of them stand on: the upstream, the store and the keys."""

    folder: Path
    upstreams: list[str]
    """The first is everybody's; the gateway's terminals are divided among all."""
    store: EmbeddedServer
    keys_url: str
    key: TokenKey
    terminals: list[tuple[str, str]] = field(default_factory=list)

    def ticket(self, terminal: str, instance: str) -> str:
        now = int(datetime.now(UTC).timestamp())  # noqa: TID251  # tickets of now
        claims = {
            "iss": ISSUER, "aud": ticket.AUDIENCE, "sub": "dana", "name": "Dana", "sid": terminal,
            "ins": instance, "mode": "write", "epoch": _EPOCH, "jti": os.urandom(12).hex(),
            "iat": now, "exp": now + int(timedelta(minutes=9).total_seconds()),
        }  # fmt: skip
        header = {"alg": "RS256", "typ": ticket.TYPE, "kid": self.key.key_id}
        return jwt.encode(header, claims, self.key.private)

    def add_terminals(self, count: int) -> None:
        made = [
            (str(ids.terminal_id(os.urandom(13))), str(ids.instance_id(os.urandom(13))))
            for _ in range(count)
        ]
        with psycopg.connect(self.store.dsn(), autocommit=True) as connection:
            for at, path in enumerate(self.upstreams):
                names, instances = map(list, zip(*made[at :: len(self.upstreams)], strict=True))
                connection.execute(_TERMINAL, (f"unix:{path}", names, instances))
        self.terminals += made


def upgrade(terminal: str, signed: str) -> bytes:
    return (
        f"GET /attach/{terminal} HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n"
        f"Sec-WebSocket-Protocol: gk.term.v1, ticket.{signed}\r\n\r\n"
    ).encode()


@contextlib.contextmanager
def ground(folder: Path, *, upstreams: int = 1) -> Iterator[Ground]:
    key = TokenKey(RSAKey.generate_key(2048))
    paths = [str(folder / f"up{number}.sock") for number in range(upstreams)]
    store = EmbeddedServer(folder / "store", find_binaries())
    with contextlib.ExitStack() as stack:
        asyncio.run(_begin(store))
        stack.callback(lambda: asyncio.run(store.stop()))
        url = stack.enter_context(_published(key))
        for path in paths:
            command = [sys.executable, "-m", "benchmarks.gateway.upstream", path]
            stack.enter_context(_process(command, LOAD_CORE))
        _until(lambda: all(map(os.path.exists, paths)))
        yield Ground(folder, paths, store, url, key)


async def _begin(store: EmbeddedServer) -> None:
    await store.start()
    owner = Secret(store.dsn())
    await migrate(owner)
    login = make_conninfo(owner.reveal(), user="gateway_bench", password="bench")
    await allow_login(owner, Secret(login), member_of=GATEWAY)
    async with await psycopg.AsyncConnection.connect(owner.reveal()) as connection:
        await connection.execute(
            "INSERT INTO gatekeeper.token_jti VALUES ('epoch', %s, 'infinity')", (_EPOCH,)
        )


@contextlib.contextmanager
def _published(key: TokenKey) -> Iterator[str]:
    body = json.dumps(key.jwks()).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks"
        server.shutdown()


@contextlib.contextmanager
def proxy(name: str, on: Ground, *, processes: int = 1) -> Iterator[Proxy]:
    """Run one of `NAMES` until the block ends; the gateway may have several processes."""
    port = free_port()
    command, request = _command(name, port, on, processes)
    with _process(command, SERVER_CORE) as pid:
        _until(lambda: _listens(port))
        yield Proxy(name, port, pid, request)


def _command(
    name: str, port: int, on: Ground, processes: int
) -> tuple[list[str], Callable[[], bytes]]:
    folder = on.folder
    if name in ("nginx", "haproxy"):
        program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            sys.exit(f"needs {name}")
        config = folder / f"{name}.conf"
        template = _NGINX if name == "nginx" else _HAPROXY
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        most = (files - 100) // 2
        config.write_text(
            template.format(
                folder=folder, port=port, path=on.upstreams[0], most=most, connections=files
            )
        )
        options = ["-c", str(config)] if name == "nginx" else ["-f", str(config)]
        return [program, *options], lambda: upgrade("trm_" + "a" * 20, "x")
    config = folder / "gateway.toml"
    login = make_conninfo(on.store.dsn(), user="gateway_bench", password="bench")
    wanted = {
        "store_dsn": login, "keys_url": on.keys_url, "issuer": ISSUER, "listen_port": port,
        "attach_key_file": str(folder / "attach.key"), "max_sockets": 100_000,
        "log_level": "WARNING", "processes": processes,
    }  # fmt: skip
    config.touch(0o600)
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in wanted.items()))
    if name == "gateway":
        return [sys.executable, "-m", "gatekeeper", "serve", "gateway", "--config", str(config)], (
            lambda: _own(on)
        )
    command = [sys.executable, "-m", "benchmarks.gateway.stand_in", str(config)]
    return [*command, f"unix:{on.upstreams[0]}"], lambda: _any(on)


def _own(on: Ground) -> bytes:
    if not on.terminals:
        on.add_terminals(1_000)
    terminal, instance = on.terminals.pop()
    return upgrade(terminal, on.ticket(terminal, instance))


def _any(on: Ground) -> bytes:
    terminal = str(ids.terminal_id(os.urandom(13)))
    return upgrade(terminal, on.ticket(terminal, INSTANCE))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > end:
            sys.exit("a server did not start")
        time.sleep(0.02)


@contextlib.contextmanager
def _process(command: list[str], core: str) -> Iterator[int]:
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    process = subprocess.Popen(["taskset", "-c", core, *command], env=environment)
    try:
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(START_SECONDS)
        process.kill()
        process.wait()
