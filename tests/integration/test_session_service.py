"""The use-cases of sessions on the real store, queue and evidence, with a fake world of targets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes.agents import FakeAgents
from gatekeeper.databases.adapters.dispatch import handler
from gatekeeper.databases.adapters.store import CLEANUP, END, ISSUE, PostgresSessionStore
from gatekeeper.databases.errors import TargetRefusedError, TargetUnreachableError
from gatekeeper.databases.jobs.cleaning import Cleaning
from gatekeeper.databases.jobs.ending import Ending
from gatekeeper.databases.jobs.issuing import Issuing
from gatekeeper.databases.model import Move, NewSession, Session, SessionFilter, Target
from gatekeeper.databases.reconcile import DriftKind, ReconcileService
from gatekeeper.databases.service import SessionService
from gatekeeper.kernel import policy, scram
from gatekeeper.kernel.errors import ErrorCode, IntegrityError, Refusal
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.ids import RoleName, SessionId, role_name
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.queue import Worker
from gatekeeper.platform.random import SystemRandom
from waiting import eventually

S = SessionStatus
PATIENCE = 60.0
"""Seconds that nothing needs when all is well, on a machine that has other things to do."""
VERIFIER = scram.make_verifier(Secret("canary"), b"s" * 16)
DANA = Principal(
    issuer="https://i", subject="dana", kind=PrincipalKind.HUMAN, groups=frozenset({"eng"})
)
OLGA = replace(DANA, subject="olga", groups=frozenset({"operators"}))
TARGET = Target(
    name="pg", agent="fake", host="h", port=1, database="d", sslmode="disable",
    min_ttl=timedelta(seconds=1), max_ttl=timedelta(hours=2), roles=("app_read", "app_write"),
)  # fmt: skip
GRANT = policy.Grant(
    name="all", who=policy.Who(groups=frozenset({"eng"})), plane="databases",
    targets=("*",), roles=("app_read",), max_ttl=timedelta(hours=1),
)  # fmt: skip


class Policies:
    def __init__(self) -> None:
        self.policy = policy.Policy(
            grants=(GRANT,),
            limits=policy.Limits(sessions_per_principal=200, requests_per_minute=100_000),
        )

    def current(self) -> policy.Policy:
        return self.policy


class WrongClock:
    """A control plane whose clock is an hour fast."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)  # noqa: TID251  # a wrong clock


class Sealer:
    public_key = "{}"

    def open(self, sealed: str) -> str:
        return f"opened {sealed}"


@dataclass
class World:
    dsn: Secret
    pool: Pool
    store: PostgresSessionStore
    agents: FakeAgents
    policies: Policies
    service: SessionService
    reconciler: ReconcileService

    async def create(self, **changes: Any) -> Session:
        made = await self.service.create(DANA, wanted(**changes))
        assert isinstance(made, Session), made
        return made

    async def reach(
        self, session: SessionId, status: SessionStatus, seconds: float = PATIENCE
    ) -> Session:
        async def there() -> Session | None:
            found = await self.store.get(session)
            return found if found is not None and found.status is status else None

        found: Session | None = await eventually(there, seconds)
        assert found is not None, await self.store.get(session)
        return found

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode())).fetchall()

    async def events(self) -> list[str]:
        return [
            row[0]
            for row in await self.rows(
                "SELECT event->>'kind' FROM gatekeeper.audit_outbox ORDER BY id"
            )
        ]

    @property
    def cleaning(self) -> Cleaning:
        return Cleaning(
            store=self.store, targets={"pg": TARGET}, agents=self.agents, random=SystemRandom()
        )

    @asynccontextmanager
    async def working(self, workers: int = 1) -> AsyncIterator[None]:
        using: Any = {"store": self.store, "targets": {"pg": TARGET}, "agents": self.agents}
        handlers = {
            ISSUE: handler(Issuing(**using)),
            END: handler(Ending(**using)),
            CLEANUP: handler(self.cleaning),
        }
        running = [
            asyncio.create_task(
                Worker(
                    pool=self.pool, dsn=self.dsn, lanes={ISSUE: 4, END: 4, CLEANUP: 4},
                    handlers=handlers, random=SystemRandom(), batch=4,
                ).run()
            )
            for _ in range(workers)
        ]  # fmt: skip
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def wanted(**changes: Any) -> NewSession:
    return replace(
        NewSession(
            target="pg", role="app_read", ttl=timedelta(minutes=5), reason="why",
            verifier=VERIFIER, correlation_id="cor_test",
        ),
        **changes,
    )  # fmt: skip


@pytest.fixture
async def world(store_dsn: str) -> AsyncIterator[World]:
    dsn = Secret(store_dsn)
    pool = Pool(dsn, name="test", max_size=30)
    await pool.open()
    store, agents, policies = PostgresSessionStore(pool), FakeAgents(), Policies()
    service = SessionService(
        store=store, targets={"pg": TARGET}, policies=policies, agents=agents, sealer=Sealer(),
        clock=WrongClock(), random=SystemRandom(), is_operator=lambda p: "operators" in p.groups,
    )  # fmt: skip
    yield World(
        dsn, pool, store, agents, policies, service, ReconcileService(store=store, agents=agents)
    )
    await pool.close()


async def test_a_session_becomes_ready_and_ends_at_its_time_by_the_stores_clock(
    world: World,
) -> None:
    world.agents.skew = timedelta(minutes=-30)
    async with world.working():
        session = await world.create(ttl=timedelta(seconds=1))
        ready = await world.reach(session.id, S.READY)
        cleaned = await world.reach(session.id, S.CLEANED)

    assert ready.expires_at is not None
    assert ready.ready_at is not None
    assert timedelta() < ready.expires_at - ready.ready_at <= timedelta(seconds=1)
    assert cleaned.ended_at == ready.expires_at
    assert cleaned.verifier is None
    assert world.agents.logins == {}
    assert await world.events() == [
        "session.created",
        "session.ready",
        "session.expired",
        "session.cleaned",
    ]


async def test_fifty_with_one_key_make_one_session(world: World) -> None:
    one = wanted(idempotency_key="k", body_sha256="same")
    async with world.working():
        made = await asyncio.gather(*(world.service.create(DANA, one) for _ in range(50)))
        sessions = {m.id for m in made if isinstance(m, Session)}
        await world.reach(next(iter(sessions)), S.READY)

    assert len(made) == 50
    assert len(sessions) == 1
    assert world.agents.made == 1
    assert await world.events() == ["session.created", "session.ready"]


async def test_a_key_with_another_body_is_a_conflict_and_keys_belong_to_their_user(
    world: World,
) -> None:
    await world.create(idempotency_key="k", body_sha256="one")

    again = await world.service.create(DANA, wanted(idempotency_key="k", body_sha256="two"))
    others = await world.service.create(
        replace(DANA, subject="emil"), wanted(idempotency_key="k", body_sha256="two")
    )

    assert isinstance(again, Refusal)
    assert again.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert isinstance(others, Session)


async def test_a_lost_answer_makes_no_second_login(world: World) -> None:
    world.agents.lose_answers = 2
    async with world.working():
        session = await world.create()
        await world.reach(session.id, S.READY)

    assert world.agents.made == 1


async def test_a_refusal_of_the_target_fails_the_session_and_undoes_what_there_may_be(
    world: World,
) -> None:
    world.agents.fail_next = [TargetRefusedError("the role pack is not installed here")]
    async with world.working():
        session = await world.create()
        cleaned = await world.reach(session.id, S.CLEANED)

    assert cleaned.error is not None
    assert cleaned.error.message == "the role pack is not installed here"
    assert await world.events() == ["session.created", "session.failed", "session.cleaned"]


async def test_revoke_is_idempotent_and_wins_over_a_late_result(world: World) -> None:
    session = await world.create()
    first = await world.service.revoke(DANA, session.id, "c")
    second = await world.service.revoke(DANA, session.id, "c")
    async with world.working():
        await world.reach(session.id, S.CLEANED)

    assert isinstance(first, Session)
    assert first.status is S.REVOKED
    assert second == first
    assert world.agents.logins == {}
    assert await world.events() == ["session.created", "session.revoked", "session.cleaned"]


async def test_a_login_made_after_its_session_was_revoked_is_undone(world: World) -> None:
    original = world.agents.create

    async def revoked_meanwhile(target: Target, sessions: Sequence[Session]) -> Any:
        receipts = await original(target, sessions)
        await world.service.revoke(DANA, sessions[0].id, "c")
        return receipts

    world.agents.create = revoked_meanwhile  # type: ignore[method-assign]
    async with world.working():
        session = await world.create()
        await world.reach(session.id, S.CLEANED)

    assert world.agents.made == 1
    assert world.agents.logins == {}


async def test_an_unreachable_target_keeps_the_session_expired_until_it_is_back(
    world: World,
) -> None:
    async with world.working():
        session = await world.create(ttl=timedelta(seconds=1))
        await world.reach(session.id, S.READY)
        world.agents.reachable = False
        expired = await world.reach(session.id, S.EXPIRED)

        async def noted() -> bool:
            found = await world.store.get(session.id)
            return found is not None and found.error is not None

        assert await eventually(noted)
        assert world.agents.logins
        world.agents.reachable = True
        await world.reach(session.id, S.CLEANED, 40)

    assert expired.cleaned_at is None
    assert world.agents.logins == {}
    events = await world.events()
    assert events.count("session.cleanup_failed") == 1
    assert events[-1] == "session.cleaned"


async def test_what_cannot_be_proven_gone_is_never_called_cleaned(world: World) -> None:
    async with world.working():
        session = await world.create()
        await world.reach(session.id, S.READY)
        world.agents.stuck.add(role_name(session.id))
        await world.service.revoke(DANA, session.id, "c")

        async def told() -> bool:
            return "session.cleanup_failed" in await world.events()

        assert await eventually(told)
        found = await world.store.get(session.id)
        assert found is not None
        assert found.status is S.REVOKED
        assert found.error is not None
        assert "objects in app" in found.error.message
        world.agents.stuck.clear()
        await world.reach(session.id, S.CLEANED, 40)


async def test_extend_moves_the_end_but_not_beyond_the_grant(world: World) -> None:
    async with world.working():
        session = await world.create(ttl=timedelta(seconds=2))
        await world.reach(session.id, S.READY)
        extended = await world.service.extend(DANA, session.id, timedelta(minutes=30), "c")
        too_long = await world.service.extend(DANA, session.id, timedelta(hours=1), "c")
        others = await world.service.extend(OLGA, session.id, timedelta(minutes=1), "c")
        await asyncio.sleep(2.2)
        still = await world.store.get(session.id)

    assert isinstance(extended, Session)
    assert still is not None
    assert still.status is S.READY
    assert isinstance(too_long, Refusal)
    assert too_long.code is ErrorCode.POLICY_DENIED
    assert isinstance(others, Refusal)
    assert others.code is ErrorCode.NOT_FOUND


async def test_only_a_ready_session_is_extended(world: World) -> None:
    session = await world.create()

    answer = await world.service.extend(DANA, session.id, timedelta(minutes=1), "c")

    assert isinstance(answer, Refusal)
    assert answer.code is ErrorCode.STATE_CONFLICT


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"target": "nope"}, ErrorCode.NOT_FOUND),
        ({"role": "nope"}, ErrorCode.VALIDATION_ERROR),
        ({"verifier": "hunter2"}, ErrorCode.VALIDATION_ERROR),
        ({"role": "app_write"}, ErrorCode.POLICY_DENIED),
        ({"ttl": timedelta(hours=2)}, ErrorCode.POLICY_DENIED),
        ({"ttl": timedelta(milliseconds=1)}, ErrorCode.VALIDATION_ERROR),
    ],
)
async def test_what_is_refused_makes_nothing(
    world: World, changes: dict[str, Any], code: ErrorCode
) -> None:
    answer = await world.service.create(DANA, wanted(**changes))

    assert isinstance(answer, Refusal)
    assert answer.code is code
    assert await world.rows("SELECT id FROM gatekeeper.session") == []
    assert await world.rows("SELECT id FROM gatekeeper.job") == []
    denied = code is ErrorCode.POLICY_DENIED
    assert await world.events() == (["session.denied"] if denied else [])


async def test_no_more_open_sessions_than_the_policy_says_also_at_once(world: World) -> None:
    world.policies.policy = replace(
        world.policies.policy,
        limits=policy.Limits(sessions_per_principal=3, requests_per_minute=1000),
    )

    made = await asyncio.gather(
        *(world.service.create(DANA, wanted(idempotency_key=str(n))) for n in range(20))
    )

    assert sum(isinstance(m, Session) for m in made) == 3
    assert {m.code for m in made if isinstance(m, Refusal)} == {ErrorCode.SESSION_LIMIT_EXCEEDED}
    assert await world.rows("SELECT count(*) FROM gatekeeper.idempotency_key") == [(3,)]


async def test_too_many_requests_are_told_when_to_come_back(world: World) -> None:
    world.policies.policy = replace(
        world.policies.policy,
        limits=policy.Limits(sessions_per_principal=100, requests_per_minute=5),
    )

    made = [await world.service.create(DANA, wanted()) for _ in range(6)]

    assert all(isinstance(m, Session) for m in made[:5])
    assert isinstance(made[5], Refusal)
    assert made[5].code is ErrorCode.RATE_LIMIT_EXCEEDED
    assert made[5].retry_after is not None
    assert 0 < made[5].retry_after <= 12


async def test_generated_passwords_are_opened_for_their_requester_while_ready(world: World) -> None:
    async with world.working():
        session = await world.create(verifier=None)
        ready = await world.reach(session.id, S.READY)
        assert world.service.password(DANA, ready) == "opened sealed"
        assert world.service.password(OLGA, ready) is None
        await world.service.revoke(DANA, session.id, "c")
        cleaned = await world.reach(session.id, S.CLEANED)

    assert cleaned.sealed_password is None


async def test_sessions_are_seen_by_their_requester_and_operators(world: World) -> None:
    session = await world.create()
    emil = replace(DANA, subject="emil")

    assert isinstance(await world.service.get(DANA, session.id), Session)
    assert isinstance(await world.service.get(OLGA, session.id), Session)
    assert isinstance(await world.service.get(emil, session.id), Refusal)
    assert isinstance(await world.service.revoke(emil, session.id, "c"), Refusal)
    assert isinstance(await world.service.revoke(OLGA, session.id, "c"), Session)


async def test_pages_show_each_session_once(world: World) -> None:
    made = [(await world.create()).id for _ in range(7)]
    seen: list[str] = []
    before = None
    while page := await world.store.find(SessionFilter(limit=3, before=before)):
        seen += [s.id for s in page]
        before = (page[-1].created_at, page[-1].id)

    assert sorted(seen) == sorted(made)
    assert list(await world.store.find(SessionFilter(requester="nobody"))) == []


async def test_changes_are_told_in_order_and_from_where_one_left(world: World) -> None:
    _, start = await world.store.changes(None, 10)
    first, second = await world.create(), await world.create()
    await world.service.revoke(DANA, first.id, "c")

    async def all_three() -> Any:
        changes, _ = await world.store.changes(start, 10)
        return changes if len(changes) == 3 else None

    changes = await eventually(all_three)
    rest, _ = await world.store.changes(changes[0].cursor, 10)

    assert [(c.session_id, c.status) for c in changes] == [
        (first.id, S.PENDING), (second.id, S.PENDING), (first.id, S.REVOKED),
    ]  # fmt: skip
    assert list(rest) == list(changes[1:])


async def test_an_overdue_login_that_the_store_never_knew_is_ended_and_told_of(
    world: World,
) -> None:
    lost = RoleName("gk_" + "a" * 20)
    world.agents.logins[lost] = world.agents.now() - timedelta(minutes=1)
    async with world.working():
        alive = await world.create()
        await world.reach(alive.id, S.READY)
        await world.cleaning.schedule()

        async def ended() -> bool:
            return "target.cleaned" in await world.events()

        assert await eventually(ended)
    assert list(world.agents.logins) == [role_name(alive.id)]
    rows = await world.rows(
        "SELECT due_at > clock_timestamp() + interval '50 s' FROM gatekeeper.job"
        " WHERE kind = 'cleanup' AND state = 'queued'"
    )
    assert rows == [(True,)], "the job comes back, once"


async def test_a_target_that_is_no_longer_configured_is_looked_after_by_nobody(
    world: World,
) -> None:
    async with world.store.transaction() as unit:
        await unit.schedule_clean_up("removed")
    async with world.working():

        async def done() -> bool:
            rows = await world.rows("SELECT state FROM gatekeeper.job WHERE kind = 'cleanup'")
            return rows == [("done",)]

        assert await eventually(done)


async def test_a_late_answer_does_not_lengthen_the_access(world: World) -> None:
    original = world.agents.create

    async def slowly(target: Target, sessions: Sequence[Session]) -> Any:
        receipts = await original(target, sessions)
        await asyncio.sleep(1.5)
        return receipts

    world.agents.create = slowly  # type: ignore[method-assign]
    async with world.working():
        session = await world.create(ttl=timedelta(minutes=1))
        ready = await world.reach(session.id, S.READY)

    assert ready.expires_at is not None
    assert ready.expires_at <= world.agents.logins[role_name(session.id)]


async def test_a_target_that_does_not_answer_is_named_and_holds_up_no_other(world: World) -> None:
    leaked = RoleName("gk_" + "b" * 20)
    world.agents.logins[leaked] = world.agents.now() + timedelta(hours=1)
    world.agents.fail_next = [TargetUnreachableError("it is away")]

    found = await world.reconciler.reconcile(
        OLGA, [replace(TARGET, name="away"), TARGET], apply=True, correlation_id="c"
    )

    assert {name: why.code for name, why in found.unseen.items()} == {"away": "TARGET_UNREACHABLE"}
    assert [(drift.target, drift.username) for drift in found.drifts] == [("pg", leaked)]
    assert world.agents.logins == {}


async def test_an_illegal_move_is_refused_by_the_store(world: World) -> None:
    session = await world.create()

    with pytest.raises(IntegrityError, match="cannot go from pending to cleaned"):
        async with world.store.transaction() as unit:
            await unit.move_all([Move(session=session, to=S.CLEANED)])


async def test_several_workers_do_each_job_once(world: World) -> None:
    async with world.working(workers=3):
        made = [await world.create() for _ in range(30)]
        for session in made:
            await world.reach(session.id, S.READY)

    assert world.agents.made == 30
    assert (await world.events()).count("session.ready") == 30


async def test_reconcile_finds_and_repairs_every_kind_of_drift(world: World) -> None:
    async with world.working():
        gone, changed, fine = [(await world.create()) for _ in range(3)]
        for session in (gone, changed, fine):
            await world.reach(session.id, S.READY)
        leaked = RoleName("gk_" + "a" * 20)
        world.agents.logins[leaked] = world.agents.now() + timedelta(hours=1)
        del world.agents.logins[gone.username]
        world.agents.drifted[changed.username] = "its password was changed"

        plan = (
            await world.reconciler.reconcile(OLGA, [TARGET], apply=False, correlation_id="c")
        ).drifts
        assert {(d.kind, d.username) for d in plan} == {
            (DriftKind.LEAKED, leaked), (DriftKind.MISSING, gone.username),
            (DriftKind.CHANGED, changed.username),
        }  # fmt: skip
        assert leaked in world.agents.logins

        await world.reconciler.reconcile(OLGA, [TARGET], apply=True, correlation_id="c")
        await world.reach(gone.id, S.CLEANED)
        await world.reach(changed.id, S.CLEANED)
        after = (
            await world.reconciler.reconcile(OLGA, [TARGET], apply=False, correlation_id="c")
        ).drifts

    assert after == ()
    assert set(world.agents.logins) == {fine.username}
    assert (await world.events()).count("target.reconciled") == 3


async def test_every_event_reaches_the_chain(world: World, tmp_path: Any) -> None:
    sequencer = Sequencer(
        pool=world.pool,
        dsn=world.dsn,
        key=SigningKey.load_or_create(tmp_path / "k"),
        clock=SystemClock(),
    )
    await world.create()

    assert await sequencer.sequence() == 1
    assert await sequencer.sequence() == 0
    assert await world.events() == []
    assert await world.rows("SELECT seq, kind FROM gatekeeper.audit_event") == [
        (1, "session.created")
    ]


async def test_a_pending_session_that_cannot_be_made_in_time_fails(world: World) -> None:
    world.agents.fail_next = [TargetUnreachableError("away") for _ in range(50)]
    session = await world.create()
    async with world.pool.connection() as connection:
        await connection.execute(
            "UPDATE gatekeeper.session SET created_at = created_at - interval '2 minutes'"
        )
    async with world.working():
        world.agents.fail_next = []
        cleaned = await world.reach(session.id, S.CLEANED)

    assert cleaned.error is not None
    assert cleaned.error.code == ErrorCode.JOB_EXPIRED
    assert world.agents.made == 0
