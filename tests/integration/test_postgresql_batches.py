"""Many logins ended in one call: each gets its own true answer, and none holds up another."""

import asyncio
import secrets

import psycopg
import pytest
from test_postgresql_provider import Login, Target, target

from gatekeeper.databases.adapters.postgresql import helpers, revocation
from gatekeeper.databases.model import ObjectPolicy, UserRevoked
from gatekeeper.kernel import ids
from gatekeeper.kernel.errors import Failure
from gatekeeper.kernel.ids import RoleName
from servers import NEWEST

__all__ = ["target"]


async def logins(target: Target, number: int) -> list[Login]:
    return await asyncio.gather(*(target.login("app_write") for _ in range(number)))


async def revoke(
    target: Target, names: list[RoleName], objects: ObjectPolicy = ObjectPolicy.QUARANTINE
) -> dict[RoleName, UserRevoked | Failure]:
    answers = await target.provider.revoke_users(names, objects)
    return dict(zip(names, answers, strict=True))


async def give_a_table(target: Target, login: Login) -> str:
    table = f"own_{login.name[3:]}"
    await target.admin(f"CREATE TABLE {table} (); ALTER TABLE {table} OWNER TO {login.name}")
    return table


def gone(answer: UserRevoked | Failure) -> bool:
    return isinstance(answer, UserRevoked) and answer.gone


async def test_each_login_of_a_batch_gets_its_own_true_answer(target: Target) -> None:
    made = await logins(target, 20)
    owner, locked, crowd = made[0], made[1], made[2]
    never = ids.role_name(ids.session_id(secrets.token_bytes(ids.RANDOM_BYTES)))
    table = await give_a_table(target, owner)
    for _ in range(5):
        await crowd.connect()
    holder = await locked.connect()
    await holder.execute(f"BEGIN; ALTER ROLE {locked.name} PASSWORD 'mine'".encode())

    answers = await revoke(target, [*(login.name for login in made), never])

    owned = answers[owner.name]
    assert isinstance(owned, UserRevoked)
    assert not owned.gone
    assert owned.left == ("role", "objects in shop")
    assert any(table in text for text in owned.owned[0].objects)
    lost = answers[never]
    assert isinstance(lost, UserRevoked)
    assert (lost.existed, lost.gone) == (False, True)
    ended = answers[crowd.name]
    assert isinstance(ended, UserRevoked)
    assert ended.backends_ended == 5
    assert {name for name, answer in answers.items() if not gone(answer)} == {owner.name}
    with pytest.raises(psycopg.OperationalError):
        await holder.execute("SELECT 1")
    assert (await target.revoke(owner.name, ObjectPolicy.DROP)).gone


@pytest.mark.parametrize(
    "hold",
    [
        "ALTER ROLE {name} CONNECTION LIMIT 1",
        "SELECT FROM gk.login WHERE name = '{name}' FOR UPDATE",
    ],
)
async def test_what_an_administrator_holds_does_not_hold_up_the_others(
    target: Target, hold: str
) -> None:
    made = await logins(target, 8)
    held, others = made[3], [*made[:3], *made[4:]]
    connections = [await login.connect() for login in others]
    async with await psycopg.AsyncConnection.connect(target.server.dsn("shop")) as admin:
        await admin.execute(hold.format(name=held.name).encode())
        revoking = asyncio.create_task(revoke(target, [login.name for login in made]))
        async with asyncio.timeout(30):
            while any([await target.exists(login.name) for login in others]):
                await asyncio.sleep(0.02)
        assert not revoking.done()
        await admin.rollback()
    answers = await revoking

    assert all(gone(answer) for answer in answers.values())
    for connection in connections:
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")


async def test_what_stays_locked_fails_alone_and_says_what_is_left(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "SWITCH_OFF_TRIES", 1)
    made = await logins(target, 4)
    async with await psycopg.AsyncConnection.connect(target.server.dsn("shop")) as admin:
        await admin.execute(f"ALTER ROLE {made[3].name} CONNECTION LIMIT 1".encode())
        answers = await revoke(target, [login.name for login in made])
        await admin.rollback()

    failed = answers.pop(made[3].name)
    assert isinstance(failed, Failure)
    assert failed.retryable
    assert failed.message.endswith("still there: role")
    assert all(gone(answer) for answer in answers.values())
    assert (await target.revoke(made[3].name, ObjectPolicy.DROP)).gone


@pytest.mark.parametrize("target_server", ["18"], indirect=True)  # it waits for a lock: once
async def test_objects_that_cannot_be_handled_now_fail_alone(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "BUSY_TRIES", 1)
    made = await logins(target, 4)
    table = await give_a_table(target, made[0])
    async with await psycopg.AsyncConnection.connect(target.server.dsn("shop")) as admin:
        await admin.execute(f"LOCK TABLE {table}".encode())
        answers = await revoke(target, [login.name for login in made], ObjectPolicy.DROP)
        await admin.rollback()

    failed = answers.pop(made[0].name)
    assert isinstance(failed, Failure)
    assert "objects in shop" in failed.message
    assert all(gone(answer) for answer in answers.values())
    assert (await target.revoke(made[0].name, ObjectPolicy.DROP)).gone


async def test_calls_with_overlapping_names_side_by_side_all_succeed(target: Target) -> None:
    names = [login.name for login in await logins(target, 30)]
    await asyncio.sleep(0)

    answers = await asyncio.gather(
        revoke(target, names[:20]), revoke(target, names[10:][::-1]), revoke(target, names[::-1])
    )

    left = {name for each in answers for name, answer in each.items() if not gone(answer)}
    for name in left:  # what another call held for too long is told, and ends when asked again
        assert (await target.revoke(name, ObjectPolicy.DROP)).gone
    assert not await target.admin(
        f"SELECT 1 FROM pg_roles WHERE rolname = ANY('{{{','.join(names)}}}')"
    )


async def test_issuing_and_ending_side_by_side_do_not_lock_each_other_out(target: Target) -> None:
    before = await logins(target, 30)

    made, answers = await asyncio.gather(
        logins(target, 30), revoke(target, [login.name for login in before])
    )

    assert all(gone(answer) for answer in answers.values())
    answers = await revoke(target, [login.name for login in made])
    assert all(gone(answer) for answer in answers.values())


@pytest.mark.parametrize("target_server", NEWEST, indirect=True)
async def test_two_hundred_end_in_one_call(target: Target) -> None:
    made = await logins(target, 200)
    for login in made[:20]:
        await login.connect()

    answers = await revoke(target, [login.name for login in made])

    assert [name for name, answer in answers.items() if not gone(answer)] == []
    left = {name for (name,) in await target.admin("SELECT rolname FROM pg_roles")}
    assert left.isdisjoint(answers)
