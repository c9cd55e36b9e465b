"""What the processes are told, and the environment names of the first design."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.bootstrap import aliases
from gatekeeper.bootstrap.agents import reach_agents
from gatekeeper.bootstrap.settings import (
    AgentSettings,
    ControlPlaneSettings,
    InProcessAgent,
    PollingAgent,
    PushedAgent,
    load_settings,
)
from gatekeeper.databases.adapters.agents.transports import Fetched, HttpPush, InProcess
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.signing import SigningKey, public_jwk
from gatekeeper.platform.postgres.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = public_jwk(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())
CANARY = "canary-in-the-environment"


def agent(
    folder: Path, environment: Mapping[str, str] | None = None, **changes: Any
) -> AgentSettings:
    values: dict[str, Any] = {
        "name": "a",
        "key_file": "agent.jwk",
        "control_planes": {"cp": KEY},
        "targets": [{"name": "t", "dsn": "host=db"}],
    }
    write_toml(folder / "agent.toml", values | changes)
    return load_settings(AgentSettings, folder / "agent.toml", environment or {})


def control_plane(
    folder: Path, environment: Mapping[str, str] | None = None, **changes: Any
) -> ControlPlaneSettings:
    target = {"agent": "a", "host": "db", "database": "shop"}
    values: dict[str, Any] = {
        "store_dsn": "host=store",
        "public_url": "http://127.0.0.1:4000",
        "key_folder": str(folder),
        "policy": "policy.yaml",
        "agents": {"a": {"url": "http://agent:4001", "public_key": KEY}},
        "targets": [
            {"name": "short", "max_ttl_seconds": 600, **target},
            {"name": "long", "max_ttl_seconds": 86_400, **target},
        ],
    }
    write_toml(folder / "cp.toml", values | changes)
    return load_settings(ControlPlaneSettings, folder / "cp.toml", environment or {})


# ── How agents are reached ────────────────────────────────────────────────────


def test_an_agent_is_pushed_its_jobs_unless_something_else_is_said(tmp_path: Path) -> None:
    settings = control_plane(
        tmp_path,
        agents={
            "plain": {"url": "http://x", "public_key": KEY},
            "pushed": {"mode": "push", "url": "http://x", "public_key": KEY},
            "polls": {"mode": "poll", "public_key": KEY},
            "inside": {
                "mode": "inprocess", "key_file": "k", "targets": [{"name": "t", "dsn": "host=x"}],
            },
        },
    )  # fmt: skip

    assert {name: type(made) for name, made in settings.agents.items()} == {
        "plain": PushedAgent,
        "pushed": PushedAgent,
        "polls": PollingAgent,
        "inside": InProcessAgent,
    }


@pytest.mark.parametrize(
    "bad",
    [
        {"mode": "lambda", "public_key": KEY},
        {"mode": 1, "public_key": KEY},
        {"mode": "poll", "public_key": KEY, "url": "http://x"},
        {"mode": "push", "public_key": KEY},
        {"mode": "inprocess", "public_key": KEY},
        "http://x",
    ],
)
def test_an_agent_that_cannot_be_reached_as_said_is_refused(tmp_path: Path, bad: object) -> None:
    with pytest.raises(InputError, match=re.escape("agents.a")):
        control_plane(tmp_path, agents={"a": bad})


async def test_each_mode_is_a_transport_and_only_polling_opens_routes(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path / "agent.jwk")
    inside = {
        "mode": "inprocess", "key_file": str(tmp_path / "agent.jwk"),
        "targets": [{"name": "t", "dsn": "host=127.0.0.1 port=1"}],
    }  # fmt: skip
    pushed = {"url": "http://127.0.0.1:1", "public_key": KEY}
    polls = {"mode": "poll", "public_key": KEY}
    quiet = control_plane(tmp_path, agents={"inside": inside, "pushed": pushed})
    polled = control_plane(tmp_path, agents={"inside": inside, "pushed": pushed, "polls": polls})
    pool = Pool(Secret("host=127.0.0.1 port=1"), name="never-opened")

    without, reached = (
        reach_agents(settings, key=key, pool=pool, clock=SystemClock())
        for settings in (quiet, polled)
    )

    assert without.routes == ()
    assert without.background == {}
    assert {name: type(made) for name, made in reached.transports.items()} == {
        "inside": InProcess,
        "pushed": HttpPush,
        "polls": Fetched,
    }
    assert len(reached.routes) == 1
    assert set(reached.background) == {"agent mail", "agent mail cleaning"}
    assert reached.keys["inside"] == key.private.public_key()
    for transport in (*without.transports.values(), *reached.transports.values()):
        await transport.close()


def test_an_agent_that_polls_must_know_where_and_whom(tmp_path: Path) -> None:
    url = "http://cp:4000"
    assert agent(tmp_path, mode="poll", control_plane_url=url).control_plane_url == url
    for bad in (
        {"mode": "poll"},
        {"mode": "poll", "control_plane_url": url, "control_planes": {"a": KEY, "b": KEY}},
        {"mode": "fax"},
    ):
        with pytest.raises(InputError, match="mode"):
            agent(tmp_path, **bad)


# ── The environment ───────────────────────────────────────────────────────────


def test_the_names_of_the_first_design_set_what_they_meant(tmp_path: Path) -> None:
    plane = control_plane(
        tmp_path,
        {
            "CONTROL_PLANE_PORT": "4444",
            "SESSION_MAX_TTL_MINUTES": "240",
            "AGENT_INTERNAL_URL": "http://elsewhere:1",
            "AGENT_MODE": "http",
            "LOG_LEVEL": "warning",
        },
    )
    assert (plane.listen_port, plane.log_level) == (4444, "WARNING")
    assert plane.agents["a"] == PushedAgent(url="http://elsewhere:1", public_key=KEY)
    assert {name: t.max_ttl for name, t in plane.targets_by_name().items()} == {
        "short": timedelta(minutes=10),
        "long": timedelta(minutes=240),
    }

    polling = agent(
        tmp_path,
        {
            "AGENT_PORT": "4445",
            "AGENT_MODE": "poll",
            "AGENT_POLL_INTERVAL_MS": "250",
            "ROLEPACK_VERSION": "pg-1.0.0",
            "LOG_LEVEL": "debug",
        },
        control_plane_url="http://cp:4000",
    )
    assert (polling.listen_port, polling.log_level, polling.mode) == (4445, "DEBUG", "poll")
    assert polling.poll_interval_ms == 250


def test_our_own_names_are_over_those_and_those_over_the_file(tmp_path: Path) -> None:
    both = {"AGENT_PORT": "1111", "GATEKEEPER_LISTEN_PORT": "2222"}
    assert agent(tmp_path, both, listen_port=3333).listen_port == 2222
    assert agent(tmp_path, {"AGENT_PORT": "1111"}, listen_port=3333).listen_port == 1111


def test_a_target_without_dsn_is_where_libpqs_own_variables_say(tmp_path: Path) -> None:
    targets = [{"name": "here"}, {"name": "there", "dsn": "host=db"}]
    with pytest.raises(InputError, match=r"targets\.0\.dsn"):
        agent(tmp_path, targets=targets)

    here, there = agent(tmp_path, {"PGHOST": "x"}, targets=targets).targets

    assert (here.dsn.reveal(), there.dsn.reveal()) == ("", "host=db")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("AGENT_PORT", "listen_port"),
        ("AGENT_MODE", "mode"),
        ("AGENT_POLL_INTERVAL_MS", "poll_interval_ms"),
        ("ROLEPACK_VERSION", "role_pack_version"),
        ("LOG_LEVEL", "log_level"),
    ],
)
def test_a_wrong_value_is_refused_and_not_repeated(tmp_path: Path, name: str, key: str) -> None:
    with pytest.raises(InputError, match=key) as caught:
        agent(tmp_path, {name: CANARY})

    assert CANARY not in caught.value.detail


def test_a_name_for_the_one_agent_needs_exactly_one(tmp_path: Path) -> None:
    polls = {"mode": "poll", "public_key": KEY}
    for agents in ({}, {"a": polls, "b": polls}):
        with pytest.raises(InputError, match="AGENT_MODE means the one agent"):
            control_plane(tmp_path, {"AGENT_MODE": "http"}, agents=agents)


ISSUER = {"issuer": "https://id", "audience": "a"}
"""Nobody is sent to it; one with a `client_id` has people log in."""


def test_the_one_issuers_client_secret_may_come_from_the_environment(tmp_path: Path) -> None:
    web = {**ISSUER, "issuer": "https://web", "client_id": "c", "client_secret": "of the file"}
    given = {"GATEKEEPER_CLIENT_SECRET": CANARY}

    settings = control_plane(tmp_path, given, issuers=[ISSUER, web])

    assert [one.client_secret for one in settings.issuers] == [None, Secret(CANARY)]
    assert CANARY not in repr(settings) + settings.model_dump_json()
    for issuers in ([ISSUER], [web, {**web, "issuer": "https://another"}]):
        with pytest.raises(InputError, match="CLIENT_SECRET means the one issuer") as caught:
            control_plane(tmp_path, given, issuers=issuers)
        assert CANARY not in caught.value.detail


@pytest.mark.parametrize(
    "bad",
    [{"client_secret": CANARY}, {"client_id": "c", "client_secret": ""}, {"client_secret": 7}],
    ids=["nobody's", "empty", "no text"],
)
def test_a_client_secret_that_is_none_is_refused_and_not_repeated(
    tmp_path: Path, bad: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=re.escape("issuers.0")) as caught:
        control_plane(tmp_path, issuers=[ISSUER | bad])

    assert "secret" in caught.value.detail
    assert CANARY not in caught.value.detail


def test_every_alias_and_every_setting_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text()
    names = {*aliases.CONTROL_PLANE, *aliases.AGENT}
    keys = {
        key
        for model in (ControlPlaneSettings, AgentSettings)
        for key in model.model_fields
    }  # fmt: skip

    assert sorted(name for name in names if f"`{name}`" not in text) == []
    assert sorted(key for key in keys if not re.search(rf"`{key}[`.]", text)) == []


def test_no_secret_is_shown_by_settings(tmp_path: Path) -> None:
    settings = agent(tmp_path, targets=[{"name": "t", "dsn": f"host=db password={CANARY}"}])

    assert CANARY not in repr(settings)
    assert CANARY not in json.dumps(settings.model_dump(mode="json"))


# ── Who may read them ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_a_file_with_a_dsn_that_anybody_can_reach_is_not_used(tmp_path: Path, mode: int) -> None:
    agent(tmp_path)
    (tmp_path / "agent.toml").chmod(mode)

    with pytest.raises(InputError, match=r"chmod o= .*agent\.toml"):
        load_settings(AgentSettings, tmp_path / "agent.toml", {})


def test_a_file_with_a_client_secret_is_as_private(tmp_path: Path) -> None:
    issuer = ISSUER | {"client_id": "c", "client_secret": CANARY}
    write_toml(tmp_path / "cp.toml", {"issuers": [issuer]})
    (tmp_path / "cp.toml").chmod(0o644)

    with pytest.raises(InputError, match="holds a secret") as caught:
        load_settings(ControlPlaneSettings, tmp_path / "cp.toml", {})

    assert CANARY not in caught.value.detail


def test_one_that_a_group_can_read_is_used_and_one_without_a_dsn_anyhow(tmp_path: Path) -> None:
    agent(tmp_path)
    (tmp_path / "agent.toml").chmod(0o640)
    assert load_settings(AgentSettings, tmp_path / "agent.toml", {}).name == "a"

    (tmp_path / "agent.toml").write_text('name = "a"\n')
    (tmp_path / "agent.toml").chmod(0o644)
    with pytest.raises(InputError, match="Field required"):
        load_settings(AgentSettings, tmp_path / "agent.toml", {})
