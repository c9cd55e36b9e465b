"""Database logins of terminals on the real database plane: one login a terminal, gone with it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from test_session_service import DANA, VERIFIER, World, world

from contract.rigs import RANDOM
from fakes.agents import FakeAgents
from gatekeeper.bootstrap.agents import reach_agents
from gatekeeper.bootstrap.settings import ControlPlaneSettings, load_settings
from gatekeeper.bootstrap.target import prepare_sample_target
from gatekeeper.bootstrap.terminals import logins
from gatekeeper.bootstrap.terminals.logins import DatabaseLogins
from gatekeeper.databases.adapters.agents.gateway import AgentGateway
from gatekeeper.databases.errors import TargetRefusedError
from gatekeeper.databases.web.watch import SessionWatch
from gatekeeper.entrypoints.operate.toml import write_toml
from gatekeeper.kernel import ids, policy, scram
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import ReplayGuard
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.http import watch
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.terminals.model import DatabaseWanted, Size, Terminal
from gatekeeper.terminals.ports import BoundLogin
from gatekeeper.terminals.runner.door import DatabaseDoor

__all__ = ["world"]

S = SessionStatus
OTHER = scram.make_verifier(Secret("another"), b"s" * scram.SALT_BYTES, 64)


def terminal(**changes: Any) -> Terminal:
    made: dict[str, Any] = {
        "id": ids.terminal_id(RANDOM.bytes(ids.RANDOM_BYTES)), "status": S.PENDING,
        "requester": DANA.key, "requester_email": None, "principal": DANA, "runner": "local",
        "instance": "a" * 20, "profile": "shell", "command": (), "shell": False, "prompt": None,
        "bundle": None, "database": DatabaseWanted(target="pg", role="app_read"),
        "database_session": None, "size": Size(), "reason": "why", "grant": "g",
        "ttl": timedelta(minutes=5), "max_ttl": timedelta(hours=1), "correlation_id": "cor_t",
        "created_at": SystemClock().now(), "ready_at": None, "expires_at": None, "ended_at": None,
        "cleaned_at": None, "stages": {}, "ended": None, "error": None,
    }  # fmt: skip
    return Terminal(**(made | changes))


@pytest.fixture
def of_terminals(world: World, monkeypatch: pytest.MonkeyPatch) -> DatabaseLogins:
    monkeypatch.setattr(watch, "LOOK_AGAIN_SECONDS", 0.05)  # nobody listens for changes here
    return DatabaseLogins(service=world.service, store=world.store, watch=SessionWatch(world.store))


async def issued(of_terminals: DatabaseLogins, wanted: Terminal) -> BoundLogin:
    login = await of_terminals.issue(wanted, VERIFIER)
    assert isinstance(login, BoundLogin), login
    return login


async def test_a_terminals_login_is_made_once_and_found_by_its_terminal(
    world: World, of_terminals: DatabaseLogins
) -> None:
    one = terminal()
    assert await of_terminals.find(one) is None
    async with world.working():
        logins_of_one = await asyncio.gather(*(issued(of_terminals, one) for _ in range(5)))
        other = await issued(of_terminals, terminal())

    login = logins_of_one[0]
    assert {login.session for login in logins_of_one} == {login.session}
    assert other.session != login.session
    assert world.agents.made == 2
    assert (login.host, login.port, login.database, login.sslmode) == ("h", 1, "d", "disable")
    assert login.username == ids.role_name(login.session)
    assert await of_terminals.find(one) == login.session
    session = await world.store.get(login.session)
    assert session is not None
    assert (session.ttl, session.reason, session.correlation_id) == (one.ttl, "why", "cor_t")


async def test_asking_again_is_not_held_against_the_requesters_limits(
    world: World, of_terminals: DatabaseLogins
) -> None:
    one = terminal()
    async with world.working():
        first = await issued(of_terminals, one)
        limits = policy.Limits(sessions_per_principal=1, requests_per_minute=1)
        world.policies.policy = replace(world.policies.policy, limits=limits)
        again = [await issued(of_terminals, one) for _ in range(3)]
        refused = await of_terminals.issue(terminal(), VERIFIER)

    assert {login.session for login in again} == {first.session}
    assert isinstance(refused, Refusal)


async def test_another_password_is_another_login_which_a_terminal_has_not(
    world: World, of_terminals: DatabaseLogins
) -> None:
    one = terminal()
    async with world.working():
        await issued(of_terminals, one)
        refused = await of_terminals.issue(one, OTHER)

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.STATE_CONFLICT
    assert world.agents.made == 1


async def test_the_requester_is_judged_again_and_a_refusal_is_a_value(
    of_terminals: DatabaseLogins,
) -> None:
    for wanted, code in (
        (DatabaseWanted(target="nowhere", role="app_read"), ErrorCode.NOT_FOUND),
        (DatabaseWanted(target="pg", role="owner"), ErrorCode.VALIDATION_ERROR),
        (DatabaseWanted(target="pg", role="app_write"), ErrorCode.POLICY_DENIED),
    ):
        refused = await of_terminals.issue(terminal(database=wanted), VERIFIER)
        assert isinstance(refused, Refusal)
        assert refused.code is code


async def test_what_will_be_refused_is_told_before_there_is_a_terminal(
    of_terminals: DatabaseLogins,
) -> None:
    def decide(target: str, role: str, **ttl: int) -> Any:
        return of_terminals.decide(DANA, target, role, timedelta(**ttl), "why")

    assert isinstance(decide("pg", "app_read", minutes=5), policy.Allowed)
    assert isinstance(decide("pg", "app_write", minutes=5), policy.Denied)
    assert decide("nowhere", "app_read", minutes=5).code is ErrorCode.NOT_FOUND
    assert decide("pg", "owner", minutes=5).code is ErrorCode.VALIDATION_ERROR
    assert decide("pg", "app_read", hours=3).code is ErrorCode.VALIDATION_ERROR


async def test_a_login_that_cannot_be_made_is_refused_in_the_targets_words(
    world: World, of_terminals: DatabaseLogins
) -> None:
    world.agents.fail_next = [TargetRefusedError("the role pack is not installed here")]
    async with world.working():
        refused = await of_terminals.issue(terminal(), VERIFIER)

    assert isinstance(refused, Refusal)
    assert refused.code is ErrorCode.TARGET_REFUSED
    assert "the role pack is not installed here" in refused.detail


async def test_a_login_that_takes_long_is_waited_for_again_and_can_be_ended_meanwhile(
    world: World, of_terminals: DatabaseLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "WAIT_SECONDS", 0.1)
    one = terminal()
    with pytest.raises(GatekeeperError) as caught:
        await of_terminals.issue(one, VERIFIER)
    session = await of_terminals.find(one)
    assert session is not None
    await of_terminals.end(session, "cor_end")
    refused = await of_terminals.issue(one, VERIFIER)
    async with world.working():
        await world.reach(session, S.CLEANED)

    assert caught.value.retryable
    assert isinstance(refused, Refusal)
    assert "revoked" in refused.detail
    assert world.agents.logins == {}


async def test_the_end_of_a_terminal_ends_its_login_once_and_the_evidence_says_so(
    world: World, of_terminals: DatabaseLogins
) -> None:
    async with world.working():
        login = await issued(of_terminals, terminal())
        await asyncio.gather(*(of_terminals.end(login.session, "cor_end") for _ in range(3)))
        await world.reach(login.session, S.CLEANED)
        await of_terminals.end(login.session, "cor_end")
        await of_terminals.end(ids.SessionId("ses_" + "b" * 20), "cor_end")

    rows = await world.rows(
        "SELECT event->'actor'->>'kind', event->'data'->>'because', event->>'correlationId'"
        " FROM gatekeeper.audit_outbox WHERE event->>'kind' = 'session.revoked'"
    )
    assert rows == [("system", "its terminal ended", "cor_end")]
    assert world.agents.logins == {}


@pytest.fixture
async def shop(
    world: World, server_18: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """The same world, with a real agent at a real target behind it."""
    dsn = await prepare_sample_target(Secret(server_18.dsn()), "shop")
    key = SigningKey.load_or_create(tmp_path / "control-plane.jwk")
    SigningKey.load_or_create(tmp_path / "agent.jwk")
    inside = {
        "mode": "inprocess", "key_file": str(tmp_path / "agent.jwk"),
        "targets": [{"name": "pg", "dsn": dsn.reveal(), "owned_objects": "drop"}],
    }  # fmt: skip
    write_toml(
        tmp_path / "cp.toml",
        {
            "store_dsn": "host=nowhere", "public_url": "http://x", "key_folder": str(tmp_path),
            "policy": "p.yaml", "agents": {"fake": inside},
        },
    )  # fmt: skip
    settings = load_settings(ControlPlaneSettings, tmp_path / "cp.toml", {})
    reached = reach_agents(settings, key=key, pool=world.pool, clock=SystemClock())
    agents: Any = AgentGateway(
        name=settings.name, key=key.private, agent_keys=reached.keys, transports=reached.transports,
        seen=ReplayGuard(), sealer=SealingKey.load_or_create(tmp_path / "sealing.jwk"),
        clock=SystemClock(), random=RANDOM,
    )  # fmt: skip
    target = replace(
        world.service._targets["pg"], host="127.0.0.1", port=server_18.port, database="shop"
    )
    monkeypatch.setattr(world.service, "_targets", {"pg": target})
    monkeypatch.setattr(world, "agents", agents)
    yield world
    await agents.close()


async def test_a_connection_through_the_door_dies_with_the_terminals_login(shop: World) -> None:
    assert not isinstance(shop.agents, FakeAgents)
    of_terminals = DatabaseLogins(
        service=shop.service, store=shop.store, watch=SessionWatch(shop.store)
    )
    folder = Path(tempfile.mkdtemp(prefix="gk-door-"))
    door = DatabaseDoor(folder, folder.stat().st_uid)  # noqa: ASYNC240
    one = terminal()
    async with shop.working():
        login = await of_terminals.issue(one, door.make_login())
        assert isinstance(login, BoundLogin), login
        await door.open(login)
        connection = await psycopg.AsyncConnection.connect(
            host=str(folder), user=login.username, dbname="shop",
            password=door.secrets()[0].reveal(), autocommit=True,
        )  # fmt: skip
        (row,) = await (await connection.execute("SELECT count(*) FROM customers")).fetchall()
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        await of_terminals.end(login.session, "cor_end")
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            await sleeping
        cleaned = await shop.reach(login.session, S.CLEANED)
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(
                host=str(folder), user=login.username, dbname="shop",
                password=door.secrets()[0].reveal(),
            )  # fmt: skip
    await connection.close()
    await door.close()
    shutil.rmtree(folder)

    assert row[0] > 0
    assert cleaned.ended_at is not None
