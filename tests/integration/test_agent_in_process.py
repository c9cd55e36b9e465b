"""An agent inside the control plane, at a real target, as the settings wire it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.rigs import RANDOM, TARGET, new_session
from gatekeeper.bootstrap.agents import reach_agents
from gatekeeper.bootstrap.settings import AgentSettings, ControlPlaneSettings, load_settings
from gatekeeper.bootstrap.target import prepare_sample_target
from gatekeeper.databases.adapters.agents.gateway import AgentGateway
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.model import CheckStatus, EndUser
from gatekeeper.databases.ports import Receipt
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.pool import Pool

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from gatekeeper.platform.postgres.embedded import EmbeddedServer


async def test_an_agent_in_this_process_makes_and_ends_a_login(
    server_18: EmbeddedServer, tmp_path: Path
) -> None:
    dsn = await prepare_sample_target(Secret(server_18.dsn()), "shop")
    key = SigningKey.load_or_create(tmp_path / "control-plane.jwk")
    SigningKey.load_or_create(tmp_path / "agent.jwk")
    inside = {
        "mode": "inprocess", "key_file": str(tmp_path / "agent.jwk"),
        "targets": [{"name": TARGET.name, "dsn": dsn.reveal(), "owned_objects": "drop"}],
    }  # fmt: skip
    write_toml(
        tmp_path / "cp.toml",
        {
            "store_dsn": "host=nowhere", "public_url": "http://x", "key_folder": str(tmp_path),
            "policy": "p.yaml", "agents": {TARGET.agent: inside},
        },
    )  # fmt: skip
    settings = load_settings(ControlPlaneSettings, tmp_path / "cp.toml", {})
    store = Pool(settings.store_dsn, name="never-opened")
    reached = reach_agents(settings, key=key, pool=store, clock=SystemClock())
    gateway = AgentGateway(
        name=settings.name,
        key=key.private,
        agent_keys=reached.keys,
        transports=reached.transports,
        seen=ReplayGuard(),
        sealer=SealingKey.load_or_create(tmp_path / "sealing.jwk"),
        clock=SystemClock(),
        random=RANDOM,
    )
    session = new_session()
    try:
        (made,) = await gateway.create(TARGET, [session])
        (ended,) = await gateway.revoke(TARGET, [EndUser(session=session.id, correlation_id="c")])
    finally:
        await gateway.close()

    assert isinstance(made, Receipt)
    assert made.value.username == session.username
    assert isinstance(ended, Receipt)
    assert ended.value.existed
    assert ended.value.gone


async def test_a_target_without_dsn_is_reached_by_libpqs_own_variables(
    server_18: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await prepare_sample_target(Secret(server_18.dsn()), "shop")
    for part in dsn.reveal().split():
        key, _, value = part.partition("=")
        names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER"}
        monkeypatch.setenv(names.get(key, f"PG{key.upper()}"), value)
    write_toml(
        tmp_path / "agent.toml",
        {"name": "a", "key_file": "k", "control_planes": {}, "targets": [{"name": "t"}]},
    )

    (target,) = load_settings(AgentSettings, tmp_path / "agent.toml").targets
    provider = PostgreSQLProvider(target.dsn)
    try:
        checks = await provider.doctor()
    finally:
        await provider.close()

    assert CheckStatus.FAILED not in {check.status for check in checks}
