"""A terminal's life over a real control plane and a real runner: what the evidence proves of it."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from runner_rig import SECONDS, Rig
from typer.testing import CliRunner

from factories.installation import (
    CONTROL_PLANE,
    control_plane_settings,
    database,
    issuer_key,
    policy,
    serving,
    terminal_settings,
    token,
)
from gatekeeper import bootstrap
from gatekeeper.bootstrap.settings import ControlPlaneSettings, load_settings
from gatekeeper.client import operations
from gatekeeper.client.api import AsyncClient
from gatekeeper.client.evidence import Trust, verify_lines
from gatekeeper.entrypoints.gk import root
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.wire import terminals as wire

if TYPE_CHECKING:
    from gatekeeper.wire.runner import LaunchOrder

SIGNED = (
    "terminal.ready",
    "terminal.attached",
    "terminal.lease_passed",
    "terminal.recorded",
    "terminal.ended",
    "terminal.cleaned",
)


@dataclass
class Installation:
    rig: Rig
    client: AsyncClient
    store: str
    keys: Path

    async def instance(self, terminal: str) -> str:
        async with await psycopg.AsyncConnection.connect(self.store) as connection:
            found = await connection.execute(
                "SELECT instance FROM gatekeeper.terminal WHERE id = %s", (terminal,)
            )
            (name,) = await found.fetchone() or ("",)
        return str(name)

    async def export(self, last: str) -> list[bytes]:
        """Take the evidence away as soon as it has an event of this kind."""
        async with asyncio.timeout(SECONDS):
            while True:
                async with self.client.stream(operations.audit_export()) as lines:
                    found = [line.encode() async for line in lines]
                if any(f'"kind":"{last}"'.encode() in line for line in found):
                    return found
                await asyncio.sleep(0.2)


@pytest.fixture
def store(server_18: EmbeddedServer) -> Iterator[str]:
    with database(server_18, "terminal_evidence") as owner:
        yield asyncio.run(bootstrap.prepare_store(Secret(owner))).reveal()


@asynccontextmanager
async def installation(store: str, folder: Path) -> AsyncIterator[Installation]:
    keys = bootstrap.make_keys(folder / "keys")
    (folder / "policy.yaml").write_text(policy())
    rig = Rig()
    public = SigningKey.load(rig.settings.key_file).public_jwk()
    terminals = terminal_settings(folder, f"unix:{rig.path}", public)
    write_toml(folder / "cp.toml", control_plane_settings(folder, store, terminals=terminals))
    settings = load_settings(ControlPlaneSettings, folder / "cp.toml", {})
    with serving(bootstrap.control_plane_app(settings, stop=lambda: None)) as url:
        rig.reports = None
        rig.settings = rig.settings.model_copy(
            update={
                "control_planes": {CONTROL_PLANE: keys.control_plane_public},
                "control_plane_url": url,
                "recordings": folder / "recordings",
            }
        )
        caller = token(issuer_key(folder), "dana", "eng", "operators")
        async with rig, AsyncClient(url, caller, correlation_id="cor_t") as client:
            yield Installation(rig, client, store, folder / "keys")


async def test_a_terminals_life_is_proven_by_what_its_runner_signed(
    store: str, tmp_path: Path
) -> None:
    async with installation(store, tmp_path) as made:
        body = wire.CreateTerminal.model_validate(
            {"command": ["/bin/sh"], "ttl": "5m", "reason": "why"}
        )
        terminal = await made.client.call(
            operations.create_terminal(body, idempotency_key=secrets.token_hex(8), wait=20)
        )
        assert terminal.status == "ready", terminal
        where: LaunchOrder = made.rig.launch_order(
            terminal=terminal.terminal_id, instance=await made.instance(terminal.terminal_id)
        )
        async with made.rig.client(where) as dana:
            await dana.write("exit 3\n")
            await dana.until_closed()
        lines = await made.export("terminal.cleaned")
        public = SigningKey.load(made.rig.settings.key_file).public_jwk()
        evidence = SigningKey.load(made.keys / "evidence.jwk").public_jwk()

    trust = Trust(public_key=evidence, runner_keys=(public,))
    found = verify_lines(lines, trust)
    told = _told(lines)

    assert found.broken is None
    assert set(SIGNED) == {event["kind"] for event in told}
    assert found.receipts == len(told)
    assert told[-1]["data"]["ended"]["exitCode"] == 3
    assert _verified_by_hand(tmp_path, lines, evidence, public).startswith(
        f"whole: {found.events} events, {len(told)} of them with a receipt, "
    )
    stranger = SigningKey(Ed25519PrivateKey.generate()).public_jwk()
    foreign = verify_lines(lines, replace(trust, runner_keys=(stranger,))).broken
    assert foreign is not None
    assert "a runner's key you gave" in foreign.what


def _told(lines: list[bytes]) -> list[Any]:
    """Return the events that hold a receipt."""
    events = [json.loads(line)["event"] for line in lines if b'"type":"event"' in line]
    return [event for event in events if "receipt" in event["data"]]


def _verified_by_hand(folder: Path, lines: list[bytes], *keys: str) -> str:
    (folder / "evidence.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    for name, key in zip(("public", "runner"), keys, strict=True):
        (folder / f"{name}.jwk").write_text(key)
    done = CliRunner().invoke(
        root,
        ["audit", "verify", "--export", str(folder / "evidence.jsonl"),
         "--public-key", str(folder / "public.jwk"), "--runner-key", str(folder / "runner.jwk")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return done.stdout
