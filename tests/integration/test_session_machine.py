"""Sessions in any order of events, on the real service, store, queue and chain.

Hypothesis drives what callers do (create, revoke, extend), what time does, and how the
processes and the network fail: a process dies before any of its calls, an answer is lost,
a call or its answer comes late, a lease runs out under a worker that still works. After
each step the rules of a session hold; in the end all of them are cleaned, and proven so.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from test_session_service import DANA, TARGET, Policies, Sealer, WrongClock, wanted

from fakes.agents import FakeAgents
from gatekeeper.databases.adapters.dispatch import handler
from gatekeeper.databases.adapters.store import END, ISSUE, PostgresSessionStore
from gatekeeper.databases.errors import TargetRefusedError, TargetUnreachableError
from gatekeeper.databases.jobs.ending import Ending
from gatekeeper.databases.jobs.issuing import Issuing
from gatekeeper.databases.model import Session
from gatekeeper.databases.service import SessionService
from gatekeeper.kernel import policy
from gatekeeper.kernel.audit import ChainVerifier
from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.kernel.ids import SessionId, job_id, role_name
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import ENDING, OPEN, SessionStatus, may_move
from gatekeeper.platform import queue
from gatekeeper.platform.audit.sequencer import Sequencer
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.platform.postgres.embedded import EmbeddedServer
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.queue import jobs
from gatekeeper.platform.random import SystemRandom
from servers import TEMPLATE

T = TypeVar("T")
S = SessionStatus

MOST_OPEN: Final = 3
MOST_CALLS: Final = 16
"""More than any handler makes for a batch, so that some runs are left alone."""
MOST_ROUNDS: Final = 12
"""More than it takes to end everything once nothing fails any more."""
EVENT_OF: Final = {
    S.PENDING: "session.created", S.READY: "session.ready", S.FAILED: "session.failed",
    S.REVOKED: "session.revoked", S.EXPIRED: "session.expired", S.CLEANED: "session.cleaned",
}  # fmt: skip


class DiedError(BaseException):
    """The process that ran this was killed here; nothing after it happens."""


@dataclass
class Fate:
    """What becomes of one process: dies before its nth call, or waits at the agent's."""

    dies_at: int | None = None
    waits: str | None = None
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    async def call(self) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise DiedError

    async def pass_by(self, place: str) -> None:
        if self.waits == place:
            self.waiting.set()
            await self.go_on.wait()


class Fated:
    """The same object, in the hands of a process that has a fate."""

    def __init__(self, whole: Any, fate: Fate) -> None:
        self._whole = whole
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        async def call(*values: Any, **named: Any) -> Any:
            await self._fate.call()
            return await getattr(self._whole, name)(*values, **named)

        return call


class FatedStore(Fated):
    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._whole.transaction() as unit:
            yield Fated(unit, self._fate)
            await self._fate.call()
        await self._fate.call()


class FatedAgents(Fated):
    """A call may reach the target late, and its answer may come back late."""

    def __getattr__(self, name: str) -> Any:
        async def call(*values: Any, **named: Any) -> Any:
            await self._fate.call()
            await self._fate.pass_by("before the call")
            answer = await getattr(self._whole, name)(*values, **named)
            await self._fate.pass_by("before the answer")
            return answer

        return call


@dataclass(frozen=True)
class Held:
    """A process that waits at the agent's call."""

    task: asyncio.Task[Any]
    fate: Fate


FATES = st.builds(
    Fate,
    dies_at=st.none() | st.none() | st.integers(1, MOST_CALLS),
    waits=st.sampled_from([None, None, "before the call", "before the answer"]),
)
TROUBLES = st.sampled_from(["none", "none", "answer lost", "refused", "unreachable"])


class Sessions(RuleBasedStateMachine):
    sessions: Bundle[SessionId] = Bundle("sessions")
    held: Bundle[Held] = Bundle("held")

    def __init__(self, databases: psycopg.Connection, server: EmbeddedServer, key: Path) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._databases = databases
        databases.execute("DROP DATABASE IF EXISTS machine WITH (FORCE)")
        databases.execute(f"CREATE DATABASE machine TEMPLATE {TEMPLATE}".encode())
        self._dsn = Secret(server.dsn("machine"))
        self._key = SigningKey.load_or_create(key)
        self.agents = FakeAgents()
        self.policies = Policies()
        self.policies.policy = replace(
            self.policies.policy,
            limits=policy.Limits(sessions_per_principal=MOST_OPEN, requests_per_minute=100_000),
        )
        self.keys: dict[str, SessionId] = {}
        self.waiting: list[Held] = []
        self._run(self._open())

    async def _open(self) -> None:
        self.pool = Pool(self._dsn, name="machine", max_size=10)
        await self.pool.open()
        self.store = PostgresSessionStore(self.pool)
        self.sequencer = Sequencer(
            pool=self.pool, dsn=self._dsn, key=self._key, clock=SystemClock()
        )

    @initialize(target=sessions)
    def a_session_is_ready(self) -> Any:
        made = self.create(None, Fate())
        self._run(self._work(ISSUE, 1, Fate()))
        return made

    # -- what callers do ---------------------------------------------------------------

    @rule(target=sessions, key=st.sampled_from([None, "a", "b"]), fate=FATES)
    def create(self, key: str | None, fate: Fate) -> Any:
        before = self._run(self._count("session", "status IN ('pending', 'ready')"))
        asked = wanted(idempotency_key=key, body_sha256="same")
        made = self._called(fate, lambda service: service.create(DANA, asked))
        if isinstance(made, Refusal):
            assert made.code is ErrorCode.SESSION_LIMIT_EXCEEDED
            assert before >= MOST_OPEN
            return multiple()
        if not isinstance(made, Session):
            return multiple()
        if key is not None:
            assert self.keys.setdefault(key, made.id) == made.id
        return made.id

    @rule(session=sessions, fate=FATES)
    def revoke(self, session: SessionId, fate: Fate) -> None:
        answer = self._called(fate, lambda service: service.revoke(DANA, session, "c"))
        assert answer is None or answer.status not in OPEN

    @rule(target=held, session=sessions, minutes=st.integers(1, 70), fate=FATES, trouble=TROUBLES)
    def extend(self, session: SessionId, minutes: int, fate: Fate, trouble: str) -> Any:
        with self._trouble(trouble):
            answer = self._called(
                fate,
                lambda service: service.extend(DANA, session, timedelta(minutes=minutes), "c"),
            )
        return answer if isinstance(answer, Held) else multiple()

    # -- what time does ----------------------------------------------------------------

    @rule(session=sessions)
    def time_passes(self, session: SessionId) -> None:
        self._run(self._pass_time(session))

    @rule()
    def leases_run_out(self) -> None:
        self._run(self._reclaim())

    @rule()
    def sequence(self) -> None:
        self._run(self.sequencer.sequence())

    # -- what processes and targets do ---------------------------------------------------

    @rule(
        target=held,
        lane=st.sampled_from([ISSUE, END]),
        most=st.integers(1, 4),
        fate=FATES,
        trouble=TROUBLES,
    )
    def work(self, lane: str, most: int, fate: Fate, trouble: str) -> Any:
        with self._trouble(trouble):
            answer = self._run(self._until_held(fate, self._work(lane, most, fate)))
        return answer if isinstance(answer, Held) else multiple()

    @rule(late=consumes(held))
    def goes_on(self, late: Held) -> None:
        self._run(self._go_on(late))

    @rule(session=sessions)
    def objects_keep_a_login(self, session: SessionId) -> None:
        self.agents.stuck ^= {role_name(session)}

    @rule()
    def target_goes_or_comes_back(self) -> None:
        self.agents.reachable ^= True

    # -- what holds after each step ------------------------------------------------------

    @invariant()
    def every_session_tells_one_legal_story(self) -> None:
        self._run(self._check_stories())

    def teardown(self) -> None:
        try:
            self._run(self._drain())
            self._run(self._check_stories())
            self._run(self._check_end())
        finally:
            self._run(self._close())
            self._runner.close()

    async def _check_stories(self) -> None:
        rows = await self._rows("SELECT id, status FROM gatekeeper.session")
        current = {SessionId(row[0]): S(row[1]) for row in rows}
        changes, told = defaultdict(list), await self._told()
        for session, status in await self._rows(
            "SELECT session_id, status FROM gatekeeper.session_change ORDER BY seq"
        ):
            changes[SessionId(session)].append(S(status))
        assert set(changes) == set(current) == set(told)
        for session, status in current.items():
            _check_story(changes[session], told[session])
            assert changes[session][-1] is status
        gone = {role_name(s) for s, status in current.items() if status is S.CLEANED}
        assert not gone & set(self.agents.logins), "a cleaned session has a login"
        made = {role_name(s) for s in current}
        assert set(self.agents.logins) <= made
        assert self.agents.made <= len(made)
        await self._check_jobs(current)

    async def _check_jobs(self, current: dict[SessionId, SessionStatus]) -> None:
        """Nothing is forgotten: what is to be done has a job, at the latest when it is due."""
        alive = dict(
            await self._rows(
                "SELECT id, due_at FROM gatekeeper.job WHERE state IN ('queued', 'running')"
            )
        )
        ends = dict(
            await self._rows(
                "SELECT id, greatest(expires_at, clock_timestamp()) FROM gatekeeper.session"
            )
        )
        for session, status in current.items():
            if status is S.PENDING:
                assert job_id(ISSUE, session) in alive
            elif status is S.READY:
                assert alive[job_id(END, session)] <= ends[session]
            elif status in ENDING:
                assert job_id(END, session) in alive

    async def _check_end(self) -> None:
        assert self.agents.logins == {}, "logins are left"
        assert await self._count("session", "status <> 'cleaned'") == 0
        assert await self._count("job", "state <> 'done'") == 0
        await self.sequencer.sequence()
        chain = ChainVerifier(lambda *_: True)  # of the receipts the fake makes none is true
        for seq, digest, canonical in await self._rows(
            "SELECT seq, hash, canonical FROM gatekeeper.audit_event ORDER BY seq"
        ):
            chain.add(seq=seq, digest=digest, canonical=canonical)
        assert chain.broken is None

    # -- the world -----------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _called(self, fate: Fate, ask: Callable[[SessionService], Awaitable[Any]]) -> Any:
        """Return the answer of a request; None when its process died or its target failed."""
        service = SessionService(
            store=FatedStore(self.store, fate), targets={"pg": TARGET}, policies=self.policies,
            agents=FatedAgents(self.agents, fate), sealer=Sealer(), clock=WrongClock(),
            random=SystemRandom(), is_operator=lambda _principal: False,
        )  # fmt: skip

        async def request() -> Any:
            try:
                return await ask(service)
            except (DiedError, GatekeeperError):
                return None

        return self._run(self._until_held(fate, request()))

    async def _until_held(self, fate: Fate, work: Coroutine[Any, Any, T]) -> T | Held:
        task = asyncio.create_task(work)
        waiting = asyncio.create_task(fate.waiting.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            return task.result()
        held = Held(task, fate)
        self.waiting.append(held)
        return held

    async def _go_on(self, held: Held) -> None:
        self.waiting.remove(held)
        held.fate.go_on.set()
        await held.task

    async def _work(self, lane: str, most: int, fate: Fate) -> None:
        async with self.pool.connection() as connection:
            claims = await jobs.claim(
                connection, lane, free=most, share=most, busy={}, lease=3600.0
            )
        if claims:
            await self._carry_out(lane, claims, fate)

    async def _carry_out(self, lane: str, claims: Any, fate: Fate) -> None:
        """Do as the worker does with a batch: whoever died said nothing of its jobs."""
        kind = {ISSUE: Issuing, END: Ending}[lane]
        use_case: Any = kind(
            store=FatedStore(self.store, fate),
            targets={"pg": TARGET},
            agents=FatedAgents(self.agents, fate),
        )
        try:
            outcomes = await handler(use_case)(claims)
        except DiedError:
            return
        except queue.LeaseLostError:
            for claim in claims if len(claims) > 1 else ():
                await self._carry_out(lane, (claim,), fate)
            return
        async with self.pool.connection() as connection:
            for claim, outcome in zip(claims, outcomes, strict=True):
                if isinstance(outcome, queue.Retry):
                    await jobs.fail(connection, claim, outcome, pause=0.0)

    @contextlib.contextmanager
    def _trouble(self, kind: str) -> Any:
        if kind == "answer lost":
            self.agents.lose_answers = 1
        elif kind == "refused":
            self.agents.fail_next = [TargetRefusedError("no")]
        elif kind == "unreachable":
            self.agents.fail_next = [TargetUnreachableError("away")]
        yield
        self.agents.lose_answers = 0
        self.agents.fail_next = []

    async def _pass_time(self, session: SessionId) -> None:
        """Let a pending session be old, and a ready one be over, on all clocks."""
        name = role_name(session)
        if name in self.agents.logins:
            self.agents.logins[name] = self.agents.now()
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute(
                "UPDATE gatekeeper.session SET created_at = created_at - interval '1 hour',"
                " expires_at = least(expires_at, now()) WHERE id = %s",
                (session,),
            )
            await connection.execute(
                "UPDATE gatekeeper.job SET due_at = least(due_at, now())"
                " WHERE id = %s AND state = 'queued'",
                (job_id(END, session),),
            )

    async def _reclaim(self) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(
                "UPDATE gatekeeper.job SET lease_until = clock_timestamp() - interval '1 s'"
                " WHERE state = 'running'"
            )
            await jobs.reclaim(connection)

    async def _drain(self) -> None:
        """Let nothing fail any more, and let everything that waits go on, late as it is."""
        self.agents.reachable = True
        self.agents.stuck.clear()
        await self._finish_all()
        for held in list(self.waiting):
            await self._go_on(held)
        await self._finish_all()

    async def _finish_all(self) -> None:
        for _ in range(MOST_ROUNDS):
            for (session,) in await self._rows("SELECT id FROM gatekeeper.session"):
                await self._pass_time(session)
            await self._reclaim()
            for lane in (ISSUE, END):
                await self._work(lane, 100, Fate())
            if not await self._count("job", "state <> 'done'"):
                return

    async def _close(self) -> None:
        for held in self.waiting:
            held.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await held.task
        await self.pool.close()

    async def _told(self) -> dict[SessionId, list[str]]:
        """Return the events of each session in their order, in the chain or on their way."""
        told = defaultdict(list)
        rows = await self._rows(
            "SELECT session_id, kind FROM gatekeeper.audit_event ORDER BY seq"
        ) + await self._rows(
            "SELECT event->>'session', event->>'kind' FROM gatekeeper.audit_outbox ORDER BY id"
        )
        for session, kind in rows:
            told[SessionId(session)].append(kind)
        return told

    async def _count(self, table: str, where: str) -> int:
        rows = await self._rows(f"SELECT count(*) FROM gatekeeper.{table} WHERE {where}")
        return int(rows[0][0])

    async def _rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode())).fetchall()


def _check_story(changes: list[SessionStatus], told: list[str]) -> None:
    """Each change is legal, and the evidence tells it once and in order."""
    assert changes[0] is S.PENDING
    expected = [EVENT_OF[S.PENDING]]
    for current, to in pairwise(changes):
        assert may_move(current, to) or current is to is S.READY, (current, to)
        expected.append("session.extended" if current is to else EVENT_OF[to])
    assert [kind for kind in told if kind != "session.cleanup_failed"] == expected
    if "session.cleanup_failed" in told:
        first = told.index("session.cleanup_failed")
        last = len(told) - told[::-1].index("session.cleanup_failed")
        assert any(EVENT_OF[status] in told[:first] for status in ENDING & EVENT_OF.keys())
        assert "session.cleaned" not in told[:last], "a failure is told of what was cleaned"
    assert all(count == 1 for kind, count in Counter(told).items() if kind in EVENT_OF.values())


def _drive(
    examples: int, steps: int, databases: psycopg.Connection, server: EmbeddedServer, key: Path
) -> None:
    run_state_machine_as_test(
        lambda: Sessions(databases, server, key),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_sessions_hold_their_promises_in_any_order_of_events(
    store_databases: psycopg.Connection, server_18: EmbeddedServer, tmp_path: Path
) -> None:
    _drive(20, 25, store_databases, server_18, tmp_path / "key")


@pytest.mark.slow
def test_sessions_hold_their_promises_in_very_many_orders_of_events(
    store_databases: psycopg.Connection, server_18: EmbeddedServer, tmp_path: Path
) -> None:
    _drive(300, 50, store_databases, server_18, tmp_path / "key")
