"""Processes that die by kill -9 at every named point of a session's life, one by one.

After each: exactly one login was made and it is gone, the session is `cleaned`, every event
is there once, and the chain is whole.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import psycopg
import pytest

from acceptance.faults.crash_points import POINTS, Point, Way, arm, set_traps
from acceptance.faults.stacks import (
    Login,
    PreparedTarget,
    Stack,
    eventually,
    fresh_store,
    rows,
    running,
)
from gatekeeper.client import operations
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.wire import sessions as wire

Victims = Literal["the one there", "the other", "both"]

SIDE_BY_SIDE: Final = 4
"""Walks wait more than they work: so many stacks share the machine."""
EVENTS: Final[dict[Way, list[str]]] = {
    "issue": ["created", "ready", "revoked", "cleaned"],
    "revoke": ["created", "ready", "revoked", "cleaned"],
    "expire": ["created", "ready", "extended", "expired", "cleaned"],
}


@dataclass(frozen=True)
class Walk:
    """One session through its life, during which processes die at one point."""

    point: Point
    way: Way
    victims: Victims

    def __str__(self) -> str:
        return f"{self.point.name} ({self.way}), {self.victims} dies"


WALKS: Final = [
    Walk(point, way, victims)
    for victims in ("the one there", "the other", "both")
    for point in POINTS
    for way in point.ways
]

Outcomes = dict[Walk, BaseException | None]


@pytest.mark.parametrize(
    "walk",
    [
        pytest.param(
            walk, id=str(walk), marks=() if walk.victims == "the one there" else pytest.mark.slow
        )
        for walk in WALKS
    ],
)
def test_a_session_survives_processes_that_die_at(walk: Walk, outcomes: Outcomes) -> None:
    if (failure := outcomes[walk]) is not None:
        raise failure


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    server_18: EmbeddedServer,
    store_databases: psycopg.Connection,
    target: PreparedTarget,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcomes]:
    """Walk all that were chosen, some side by side; each test then looks at its own."""
    specs = (getattr(item, "callspec", None) for item in request.session.items)
    chosen = [spec.params["walk"] for spec in specs if spec is not None and "walk" in spec.params]
    with ExitStack() as stores:
        folders = [tmp_path_factory.mktemp("walks") for _ in range(SIDE_BY_SIDE)]
        dsns = [stores.enter_context(fresh_store(store_databases, server_18)) for _ in folders]
        yield asyncio.run(_walk_all(chosen, list(zip(folders, dsns, strict=True)), target))


async def _walk_all(
    walks: list[Walk], places: list[tuple[Path, str]], target: PreparedTarget
) -> Outcomes:
    outcomes: Outcomes = {}
    waiting = iter(walks)
    await asyncio.gather(
        *(_walk_some(waiting, outcomes, folder, store, target) for folder, store in places)
    )
    return outcomes


async def _walk_some(
    waiting: Iterator[Walk], outcomes: Outcomes, folder: Path, store: str, target: PreparedTarget
) -> None:
    order = folder / "order"
    async with running(folder, store, target, prepare=[partial(set_traps, order)]) as stack:
        keeper = asyncio.create_task(stack.keep_running())
        for walk in waiting:
            try:
                await _walk(stack, walk, order)
                outcomes[walk] = None
            except Exception as failure:  # noqa: BLE001  # raised again by the walk's own test
                outcomes[walk] = failure
                order.unlink(missing_ok=True)
        keeper.cancel()


async def _walk(stack: Stack, walk: Walk, order: Path) -> None:
    await stack.ready()
    stack.deaths.clear()
    there, other = stack.agent, stack.planes[0]
    if walk.point.process == "control-plane":
        there, other = other, there
    victims = {"the one there": [there], "the other": [other], "both": [other, there]}[walk.victims]
    if walk.way == "issue":
        arm(order, walk.point, [victim.pid for victim in victims])
    login = await stack.create(reason=str(walk))
    async with await psycopg.AsyncConnection.connect(login.dsn, autocommit=True) as holder:
        await holder.execute("SELECT lo_create(0)")
        if walk.way != "issue":
            arm(order, walk.point, [victim.pid for victim in victims])
        await _end(stack, login, walk.way)
        await stack.reach(login.session)
        with pytest.raises(psycopg.OperationalError):
            await holder.execute("SELECT 1")

    async def died() -> bool:
        return len(stack.deaths) == len(victims)

    await eventually(died, f"{walk.point.name!r} is reached")
    assert sorted(stack.deaths) == sorted((v.role, -signal.SIGKILL) for v in victims)
    await stack.ready()
    await _assert_well_ended(stack, walk, login)


async def _end(stack: Stack, login: Login, way: Way) -> None:
    if way != "expire":
        await stack.revoke(login.session)
        return
    soon = wire.ExtendSession(ttl="1s")
    await stack.call(operations.extend_session(login.session, soon))


async def _assert_well_ended(stack: Stack, walk: Walk, login: Login) -> None:
    await stack.assert_gone(login)
    assert await rows(
        stack.store, "SELECT id FROM gatekeeper.session WHERE reason = %s", str(walk)
    ) == [(login.session,)]
    told = [kind for kind in await stack.events(login.session) if kind != "session.cleanup_failed"]
    assert told == [f"session.{what}" for what in EVENTS[walk.way]]
    await stack.assert_chain_is_whole()
