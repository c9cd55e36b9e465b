"""One suite over every `DatabaseProvider`: the fake, and PostgreSQL 15, 16 and 18."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg
import pytest

from fakes.provider import FakeProvider
from gatekeeper.bootstrap.target import prepare_sample_target
from gatekeeper.databases.adapters.postgresql.provider import PostgreSQLProvider
from gatekeeper.databases.errors import TargetRefusedError, TargetUnreachableError
from gatekeeper.databases.model import (
    Check,
    CheckStatus,
    CreateUser,
    ObjectPolicy,
    UserCreated,
    UserRevoked,
)
from gatekeeper.kernel import ids, scram
from gatekeeper.kernel.errors import ErrorCode, Failure
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.random import SystemRandom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gatekeeper.databases.ports import DatabaseProvider
    from gatekeeper.kernel.ids import RoleName
    from gatekeeper.platform.postgres.embedded import EmbeddedServer

HOUR: Final = timedelta(hours=1)
RANDOM: Final = SystemRandom()
VERIFIER: Final = scram.make_verifier(Secret("x"), b"s" * scram.SALT_BYTES, 64)


class Server(Protocol):
    """What a test does to a server behind the provider's back."""

    provider: DatabaseProvider

    async def own_something(self, login: RoleName) -> None: ...

    async def hold(self, login: RoleName) -> None:
        """Keep a login from being switched off, until `let_go`."""
        ...

    async def let_go(self, login: RoleName) -> None: ...

    async def move_its_end(self, login: RoleName) -> None: ...

    async def damage(self) -> None:
        """Take away something that the provider needs."""
        ...

    async def mend(self, fix: str) -> None: ...

    async def go_away(self) -> None: ...

    async def close(self) -> None: ...


class FakeServer:
    def __init__(self) -> None:
        self.fake = FakeProvider()
        self.provider: DatabaseProvider = self.fake

    async def own_something(self, login: RoleName) -> None:
        self.fake.logins[login].objects = ("table own",)

    async def hold(self, login: RoleName) -> None:
        self.fake.stuck.add(login)

    async def let_go(self, login: RoleName) -> None:
        self.fake.stuck.discard(login)

    async def move_its_end(self, login: RoleName) -> None:
        self.fake.logins[login].drift = ("its end was moved",)

    async def damage(self) -> None:
        self.fake.checks = (
            Check(name="helper", status=CheckStatus.FAILED, detail="is gone", fix="mend it"),
        )

    async def mend(self, fix: str) -> None:
        assert fix == "mend it"
        self.fake.checks = (Check(name="helper", status=CheckStatus.OK, detail="is there"),)

    async def go_away(self) -> None:
        self.fake.reachable = False

    async def close(self) -> None:
        await self.provider.close()


class PostgreSQL:
    def __init__(self, server: EmbeddedServer, agent_dsn: Secret) -> None:
        self._server = server
        self._held: dict[RoleName, psycopg.AsyncConnection[Any]] = {}
        self.provider: DatabaseProvider = PostgreSQLProvider(agent_dsn)

    async def own_something(self, login: RoleName) -> None:
        await self._admin(
            f"GRANT CREATE ON SCHEMA public TO {login}; SET ROLE {login};"
            f" CREATE TABLE own_{login} (); RESET ROLE;"
            f" REVOKE CREATE ON SCHEMA public FROM {login}"
        )

    async def hold(self, login: RoleName) -> None:
        self._held[login] = await psycopg.AsyncConnection.connect(self._server.dsn("shop"))
        await self._held[login].execute(f"ALTER ROLE {login} CONNECTION LIMIT 7".encode())

    async def let_go(self, login: RoleName) -> None:
        await self._held.pop(login).close()

    async def move_its_end(self, login: RoleName) -> None:
        await self._admin(f"ALTER ROLE {login} VALID UNTIL 'infinity'")

    async def damage(self) -> None:
        await self._admin("ALTER FUNCTION gk.remains(text[]) RESET search_path")

    async def mend(self, fix: str) -> None:
        await self._admin(fix)

    async def go_away(self) -> None:
        await self.provider.close()
        self.provider = PostgreSQLProvider(Secret("postgresql://gk_agent@127.0.0.1:9/shop"))

    async def close(self) -> None:
        for connection in self._held.values():
            await connection.close()
        await self.provider.close()

    async def _admin(self, query: str) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._server.dsn("shop"), autocommit=True
        ) as connection:
            await connection.execute(query.encode())


@pytest.fixture(params=["fake", "15", "16", "18"])
def real(request: pytest.FixtureRequest) -> EmbeddedServer | None:
    if request.param == "fake":
        return None
    server: EmbeddedServer = request.getfixturevalue(f"server_{request.param}")
    return server


@pytest.fixture(scope="module")
def set_up() -> dict[str, Secret]:
    """Return the agent's DSN of each server that was set up."""
    return {}


@pytest.fixture
async def server(real: EmbeddedServer | None, set_up: dict[str, Secret]) -> AsyncIterator[Server]:
    made: Server = FakeServer()
    if real is not None:
        if real.dsn() not in set_up:
            set_up[real.dsn()] = await prepare_sample_target(Secret(real.dsn()), "shop")
        made = PostgreSQL(real, set_up[real.dsn()])
    yield made
    await made.close()


def a_login(**changes: Any) -> CreateUser:
    session = ids.session_id(RANDOM.bytes(ids.RANDOM_BYTES))
    request = CreateUser(
        session=session,
        username=ids.role_name(session),
        role="app_read",
        ttl=HOUR,
        verifier=VERIFIER,
        correlation_id="c",
    )
    return replace(request, **changes)


async def make(server: Server, **changes: Any) -> tuple[RoleName, UserCreated]:
    request = a_login(**changes)
    return request.username, await server.provider.create_ephemeral_user(request)


async def end(
    server: Server, *logins: RoleName, objects: ObjectPolicy = ObjectPolicy.DROP
) -> list[UserRevoked]:
    proofs = await server.provider.revoke_users(logins, objects)
    assert [proof for proof in proofs if isinstance(proof, Failure)] == []
    return [proof for proof in proofs if isinstance(proof, UserRevoked)]


async def listed(server: Server) -> dict[RoleName, Any]:
    return {user.username: user for user in await server.provider.list_managed_users()}


# ── Making ────────────────────────────────────────────────────────────────────


async def test_a_login_is_made_for_its_time_on_the_targets_clock(server: Server) -> None:
    name, created = await make(server)

    assert (created.username, created.already_existed) == (name, False)
    lives = created.expires_at - created.target_now
    assert HOUR - timedelta(seconds=30) < lives <= HOUR
    user = (await listed(server))[name]
    assert (user.can_login, user.backends, user.drift) == (True, 0, ())
    assert (user.packs, user.expires_at) == (frozenset({"app_read"}), created.expires_at)
    await end(server, name)


async def test_the_same_request_again_is_the_same_login(server: Server) -> None:
    request = a_login()
    created = await server.provider.create_ephemeral_user(request)

    again = await server.provider.create_ephemeral_user(request)

    assert again.already_existed
    assert again.expires_at == created.expires_at
    await end(server, request.username)


async def test_many_at_once_make_one_login(server: Server) -> None:
    request = a_login()

    made = await asyncio.gather(
        *(server.provider.create_ephemeral_user(request) for _ in range(20))
    )

    assert len({m.expires_at for m in made}) == 1
    assert sum(not m.already_existed for m in made) == 1
    await end(server, request.username)


@pytest.mark.parametrize(
    "change", [{"role": "app_write"}, {"verifier": VERIFIER.replace("4", "5", 1)}]
)
async def test_another_request_for_the_same_login_is_refused(
    server: Server, change: dict[str, Any]
) -> None:
    request = a_login(verifier=VERIFIER)
    await server.provider.create_ephemeral_user(request)

    with pytest.raises(TargetRefusedError):
        await server.provider.create_ephemeral_user(replace(request, **change))

    await end(server, request.username)


@pytest.mark.parametrize(
    "change",
    [
        {"username": "postgres"},
        {"username": "gk_" + "A" * 20},
        {"role": "nobody"},
        {"verifier": "plaintext"},
        {"ttl": timedelta(0)},
        {"ttl": timedelta(days=2)},
    ],
)
async def test_what_is_no_login_of_ours_is_refused(server: Server, change: dict[str, Any]) -> None:
    before = await listed(server)

    with pytest.raises(TargetRefusedError) as caught:
        await make(server, **change)

    assert not caught.value.retryable
    assert await listed(server) == before


# ── Ending ────────────────────────────────────────────────────────────────────


async def test_a_login_ends_and_that_is_proven(server: Server) -> None:
    name, _ = await make(server)

    (proof,) = await end(server, name)

    assert (proof.username, proof.existed, proof.gone) == (name, True, True)
    assert (proof.left, proof.owned, proof.shortfall()) == ((), (), None)
    assert proof.access_cut_at <= proof.verified_at
    assert name not in await listed(server)


async def test_ending_what_never_was_is_success(server: Server) -> None:
    (proof,) = await end(server, a_login().username)

    assert (proof.existed, proof.gone) == (False, True)


async def test_an_ended_login_is_never_made_again_also_when_it_never_was(server: Server) -> None:
    request, never = a_login(), a_login()
    await server.provider.create_ephemeral_user(request)
    await end(server, request.username, never.username)

    for late in (request, never):
        with pytest.raises(TargetRefusedError, match="ended before"):
            await server.provider.create_ephemeral_user(late)


async def test_ending_twice_and_at_once_is_the_same_success(server: Server) -> None:
    name, _ = await make(server)

    proofs = await asyncio.gather(*(end(server, name) for _ in range(8)))

    assert all(proof.gone for (proof,) in proofs)


@pytest.mark.parametrize("real", ["fake", "18"], indirect=True)
async def test_a_login_that_cannot_be_ended_holds_up_no_other(server: Server) -> None:
    names = [(await make(server))[0] for _ in range(4)]
    await server.hold(names[1])

    answers = await server.provider.revoke_users(names, ObjectPolicy.DROP)

    stuck = answers[1]
    assert isinstance(stuck, Failure)
    assert (stuck.code, stuck.retryable) == (ErrorCode.TARGET_BUSY, True)
    ended = [a for a in answers if isinstance(a, UserRevoked)]
    assert [proof.username for proof in ended] == [names[0], names[2], names[3]]
    assert all(proof.gone for proof in ended)

    await server.let_go(names[1])
    (proof,) = await end(server, names[1])
    assert proof.gone


async def test_owned_objects_are_kept_for_a_human_or_dropped(server: Server) -> None:
    name, _ = await make(server)
    await server.own_something(name)

    (kept,) = await end(server, name, objects=ObjectPolicy.QUARANTINE)

    assert (kept.existed, kept.gone) == (True, False)
    assert kept.left == ("role", "objects in shop")
    assert [o.database for o in kept.owned] == ["shop"]
    assert any("own" in text for text in kept.owned[0].objects)
    shortfall = kept.shortfall()
    assert shortfall is not None
    assert (shortfall.code, shortfall.retryable) == (ErrorCode.REVOCATION_INCOMPLETE, True)
    assert not (await listed(server))[name].can_login

    (dropped,) = await end(server, name, objects=ObjectPolicy.DROP)
    assert dropped.gone
    assert name not in await listed(server)


async def test_what_still_stands_after_its_end_is_overdue_and_what_is_gone_is_forgotten(
    server: Server,
) -> None:
    alive, _ = await make(server)
    name, _ = await make(server)
    await server.own_something(name)
    await end(server, name, objects=ObjectPolicy.QUARANTINE)

    overdue = await server.provider.list_overdue_users(timedelta(0))
    assert name in overdue
    assert alive not in overdue
    assert name not in await server.provider.list_overdue_users(HOUR)
    assert await server.provider.forget_ended(HOUR) == 0

    await end(server, name, alive)
    assert {name, alive}.isdisjoint(await server.provider.list_overdue_users(timedelta(0)))


# ── Extending, looking, checking ──────────────────────────────────────────────


async def test_an_end_is_moved_from_now_on_and_not_beyond_what_the_pack_allows(
    server: Server,
) -> None:
    name, created = await make(server, ttl=timedelta(seconds=30))

    extended = await server.provider.extend_user(name, HOUR)

    assert (extended.username, extended.already_existed) == (name, True)
    assert created.expires_at < extended.expires_at <= extended.target_now + HOUR
    assert (await listed(server))[name].expires_at == extended.expires_at
    for ttl in (timedelta(days=2), timedelta(0)):
        with pytest.raises(TargetRefusedError):
            await server.provider.extend_user(name, ttl)
    await end(server, name)


async def test_an_ended_login_is_not_extended_nor_one_that_never_was(server: Server) -> None:
    name, _ = await make(server)
    await server.own_something(name)
    await end(server, name, objects=ObjectPolicy.QUARANTINE)

    for login in (name, a_login().username):
        with pytest.raises(TargetRefusedError):
            await server.provider.extend_user(login, HOUR)

    await end(server, name)


async def test_what_was_changed_behind_our_back_is_seen(server: Server) -> None:
    name, _ = await make(server)

    await server.move_its_end(name)

    assert (await listed(server))[name].drift == ("its end was moved",)
    await end(server, name)


async def test_the_doctor_finds_nothing_then_what_is_damaged_and_how_to_mend_it(
    server: Server,
) -> None:
    # Other tests keep databases on this server, and a busy machine's answer about its clock is late.
    others = {c.name for c in await found(server) if c.name.startswith("database ")} | {"clock"}
    assert {c.name for c in await found(server)} <= others

    await server.damage()
    bad = [c for c in await found(server) if c.name not in others]

    assert bad
    for check in bad:
        assert check.fix is not None
        await server.mend(check.fix)
    assert {c.name for c in await found(server)} <= others


async def found(server: Server) -> list[Check]:
    return [c for c in await server.provider.doctor() if c.status is not CheckStatus.OK]


async def test_a_server_that_went_away_is_unreachable_whatever_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatekeeper.databases.adapters.postgresql.helpers.WAIT_SECONDS", 0.3)
    await server.provider.health()
    await server.go_away()

    asked = [
        server.provider.health(),
        server.provider.create_ephemeral_user(a_login()),
        server.provider.revoke_users([a_login().username], ObjectPolicy.DROP),
        server.provider.extend_user(a_login().username, HOUR),
        server.provider.list_managed_users(),
        server.provider.doctor(),
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert {type(answer) for answer in answers} == {TargetUnreachableError}
