"""What tests write down to run a Gatekeeper of their own, and how they call it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import uvicorn
from joserfc import jwt
from psycopg import sql

from gatekeeper.bootstrap import Keys
from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.development import AUDIENCE, PREFIX
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.wire import sessions as wire

PUBLIC_URL: Final = "http://127.0.0.1:1"
"""Nobody is asked there: the development issuer's keys are read from their file."""
ISSUER: Final = PUBLIC_URL + PREFIX
TARGET: Final = "pg"
AGENT: Final = "a"
CONTROL_PLANE: Final = "cp"


def policy(*, roles: str = "app_read", sessions: int = 1_000, requests: int = 100_000) -> str:
    """Let engineers have these roles at every target, within limits no test should meet."""
    return f"""
apiVersion: gatekeeper/v1
kind: Policy
grants:
  - {{name: eng, who: {{groups: [eng]}}, plane: databases, targets: ["*"], roles: [{roles}], maxTtl: 1h}}
  - {{name: terminals, who: {{groups: [eng]}}, plane: terminals, targets: ["*"], roles: [shell], maxTtl: 1h}}
limits: {{sessionsPerPrincipal: {sessions}, requestsPerMinute: {requests}}}
"""


def agent_settings(keys: Keys, dsn: Secret, *, target: str = TARGET, **more: Any) -> dict[str, Any]:
    return {
        "name": AGENT,
        "key_file": str(keys.agent_file),
        "control_planes": {CONTROL_PLANE: keys.control_plane_public},
        "targets": [{"name": target, "dsn": dsn.reveal(), "owned_objects": "drop"}],
        **more,
    }


def control_plane_settings(folder: Path, store: str, **more: Any) -> dict[str, Any]:
    """Return settings of a control plane over `folder`, which has keys and a policy."""
    return {
        "name": CONTROL_PLANE,
        "store_dsn": store,
        "public_url": PUBLIC_URL,
        "key_folder": str(folder / "keys"),
        "policy": str(folder / "policy.yaml"),
        "operator_groups": ["operators"],
        "development_users": [{"name": "dana", "email": "d@x", "groups": ["eng"]}],
        **more,
    }


def target_settings(
    server: EmbeddedServer, *, name: str = TARGET, agent: str = AGENT, database: str = "shop"
) -> dict[str, Any]:
    return {
        "name": name,
        "agent": agent,
        "host": "127.0.0.1",
        "port": server.port,
        "database": database,
        "sslmode": "disable",
        "min_ttl_seconds": 1,
    }


def terminal_settings(folder: Path, runner: str, public_key: str) -> dict[str, Any]:
    """Return the settings of terminals at one runner."""
    return {
        "gateway_url": "ws://127.0.0.1:2",
        "runners": {"local": {"address": runner, "public_key": public_key, "capacity": 1_000}},
        "profiles": [
            {"name": "shell", "any_command": True, "bundles": True},
            {"name": "closed"},
        ],
        "recordings": str(folder / "recordings"),
        "keep_recordings_days": 1,
    }


def token(key: TokenKey, name: str, *groups: str) -> Secret:
    """Sign what the development issuer would give this person."""
    now = int(time.time())  # noqa: TID251  # a token's own times
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": name, "iat": now, "exp": now + 600,
        "groups": list(groups),
    }  # fmt: skip
    return Secret(jwt.encode({"alg": "RS256", "kid": key.key_id}, claims, key.private))


def issuer_key(folder: Path) -> TokenKey:
    return TokenKey.load_or_create(folder / "keys" / "development-issuer.jwk")


def request(**changes: Any) -> wire.CreateSession:
    """Ask for a login whose password nobody needs."""
    verifier = scram.make_verifier(Secret("pw"), b"s" * scram.SALT_BYTES, 64)
    values: dict[str, Any] = {
        "target": TARGET, "role": "app_read", "ttl": "5m", "reason": "why",
        "credential": {"kind": "scram-sha-256", "verifier": verifier},
    }  # fmt: skip
    return wire.CreateSession.model_validate(values | changes)


@contextmanager
def database(server: EmbeddedServer, name: str) -> Iterator[str]:
    """Give the owner's DSN of an empty database, and drop it afterwards."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield server.dsn(name)
    finally:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(drop.format(sql.Identifier(name)))


@contextmanager
def serving(app: Any, listener: socket.socket | None = None) -> Iterator[str]:
    """Serve an application in a thread, on a free port or on this one; give its address."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield address(listener)
    finally:
        server.should_exit = True
        thread.join(20)


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
