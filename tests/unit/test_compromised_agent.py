"""An agent with its key in the wrong hands: what it signs is believed only as a receipt can be.

What is taken goes into the evidence as it was signed, and one receipt that does not fit would
have every later event called unverified.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.rigs import AGENT_KEY, TARGET, World, new_session, world_over
from gatekeeper.databases.model import EndUser
from gatekeeper.databases.ports import Receipt
from gatekeeper.kernel.errors import ErrorCode, Failure, GatekeeperError
from gatekeeper.platform.crypto.envelope import seal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from gatekeeper.databases.adapters.agents.gateway import Transport

    Lie = Callable[[dict[str, Any]], None]


class _Forger:
    """Answers as its agent does, and then signs something else."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.lie: Lie = lambda _result: None

    async def exchange(self, envelope: str) -> str:
        answer = await self._transport.exchange(envelope)
        return "\n".join(self._forged(line) for line in answer.split("\n"))

    def _forged(self, line: str) -> str:
        claims = json.loads(urlsafe_b64decode(line.split(".")[1] + "=="))
        result = json.loads(claims["payload"])
        self.lie(result)
        return seal(
            json.dumps(result).encode(),
            key=AGENT_KEY,
            sender=claims["iss"],
            audience=claims["aud"],
            purpose="result",
            message_id=claims["jti"],
            now=datetime.fromtimestamp(claims["iat"], UTC),
            in_reply_to=claims["irt"],
        )

    async def close(self) -> None:
        await self._transport.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_over("inprocess", dsn="", folder=tmp_path) as made:
        made.wire.transport = _Forger(made.wire.transport)
        yield made


def says(**changes: Any) -> Lie:
    def lie(result: dict[str, Any]) -> None:
        result.update(changes)

    return lie


def leaves_out(name: str) -> Lie:
    def lie(result: dict[str, Any]) -> None:
        del result[name]

    return lie


ABOUT_ANOTHER = pytest.param(says(correlationId="another"), id="about another request")
SECONDS = pytest.param(says(expiresAt="1767225600", verifiedAt="1767225600"), id="times in seconds")
NO_ZONE = pytest.param(
    says(expiresAt="2026-01-01T00:00:00", verifiedAt="2026-01-01T00:00:00"), id="times of no zone"
)


@pytest.mark.parametrize(
    "lie",
    [
        ABOUT_ANOTHER,
        SECONDS,
        NO_ZONE,
        pytest.param(says(expiresAt="9999-12-31T00:00:00Z"), id="that it lives for ever"),
        pytest.param(says(targetNow="2020-01-01T00:00:00Z"), id="that it began long ago"),
    ],
)
async def test_of_a_login_it_made(world: World, lie: Lie) -> None:
    _tell(world, lie)

    (answer,) = await world.gateway.create(TARGET, [new_session()])

    assert isinstance(answer, Failure)
    assert answer.code == ErrorCode.AGENT_REJECTED


@pytest.mark.parametrize(
    "lie",
    [
        ABOUT_ANOTHER,
        SECONDS,
        NO_ZONE,
        pytest.param(says(left=["role"]), id="that what still stands is gone"),
        pytest.param(leaves_out("owned"), id="nothing of what was owned"),
        pytest.param(leaves_out("existed"), id="not whether it existed"),
        pytest.param(says(left=["x" * 100_000], status="incomplete"), id="more than anybody reads"),
    ],
)
async def test_of_a_login_it_ended(world: World, lie: Lie) -> None:
    session = new_session()
    (made,) = await world.gateway.create(TARGET, [session])
    assert isinstance(made, Receipt), made
    _tell(world, lie)

    (answer,) = await world.gateway.revoke(
        TARGET, [EndUser(session=session.id, correlation_id="cor")]
    )

    assert isinstance(answer, Failure)
    assert answer.code == ErrorCode.AGENT_REJECTED
    assert len(answer.message) < 1_000


async def test_of_a_login_it_extended(world: World) -> None:
    session = new_session()
    await world.gateway.create(TARGET, [session])
    _tell(world, says(expiresAt="9999-12-31T00:00:00Z"))

    with pytest.raises(GatekeeperError) as caught:
        await world.gateway.extend(TARGET, session.id, timedelta(minutes=5), "cor")

    assert caught.value.code is ErrorCode.AGENT_REJECTED


def _tell(world: World, lie: Lie) -> None:
    forger = world.wire.transport
    assert isinstance(forger, _Forger)
    forger.lie = lie
