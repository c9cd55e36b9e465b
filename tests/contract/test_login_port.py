"""What a `Logins` promises, held against the fake that other tests use and the real one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from test_session_service import DANA, VERIFIER, World, world
from test_terminal_logins import of_terminals, terminal

from fakes.logins import FakeLogins
from gatekeeper.bootstrap.terminals.logins import DatabaseLogins
from gatekeeper.kernel import ids, policy
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.terminals.ports import BoundLogin, Logins

__all__ = ["of_terminals", "world"]


@pytest.fixture(params=["fake", "real"])
async def logins(
    request: pytest.FixtureRequest, world: World, of_terminals: DatabaseLogins
) -> AsyncIterator[Logins]:
    if request.param == "fake":
        yield FakeLogins()
        return
    async with world.working():
        yield of_terminals


async def test_a_terminal_has_one_login_however_often_it_is_asked_for(logins: Logins) -> None:
    one, other = terminal(), terminal(instance="b" * 20)
    assert await logins.find(one) is None
    answers = [await logins.issue(one, VERIFIER) for _ in range(2)]
    answers += await asyncio.gather(*(logins.issue(one, VERIFIER) for _ in range(3)))
    others = await logins.issue(other, VERIFIER)

    made = answers[0]
    assert isinstance(made, BoundLogin)
    assert isinstance(others, BoundLogin)
    assert answers == [made] * 5
    assert others.session != made.session
    assert made.username == ids.role_name(made.session)
    assert await logins.find(one) == made.session


async def test_an_end_is_safe_to_repeat_also_for_what_was_never_there(logins: Logins) -> None:
    one = terminal()
    made = await logins.issue(one, VERIFIER)
    assert isinstance(made, BoundLogin)
    for _ in range(2):
        await logins.end(made.session, "cor")
    await logins.end(ids.SessionId("ses_" + "c" * 20), "cor")
    assert await logins.find(one) == made.session


async def test_a_decision_is_the_policys_or_says_what_there_is_not(logins: Logins) -> None:
    def decide(target: str, role: str) -> Any:
        return logins.decide(DANA, target, role, timedelta(minutes=5), "why")

    assert isinstance(decide("pg", "app_read"), policy.Allowed)
    assert isinstance(decide("pg", "app_write"), policy.Denied)
    unknown = decide("nowhere", "app_read")
    assert isinstance(unknown, Refusal)
    assert unknown.code is ErrorCode.NOT_FOUND
