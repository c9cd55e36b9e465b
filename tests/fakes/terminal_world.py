"""The use-cases of terminals on a real store and queue, over a runner in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.jwk import KeySet

from fakes.launcher import FakeLauncher
from gatekeeper.kernel import ids
from gatekeeper.kernel import policy as rules
from gatekeeper.kernel.identity import Principal, PrincipalKind
from gatekeeper.kernel.secret import Secret
from gatekeeper.kernel.session import SessionStatus
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.postgres.pool import Pool
from gatekeeper.platform.queue import Backoff, Settled, Worker, jobs
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.adapters.dispatch import handler
from gatekeeper.terminals.adapters.recordings import FolderRecordings
from gatekeeper.terminals.adapters.store import END, LAUNCH, LISTEN, PostgresTerminalStore
from gatekeeper.terminals.adapters.tickets import TicketKeys
from gatekeeper.terminals.jobs.ending import Terminating
from gatekeeper.terminals.jobs.launching import Launching
from gatekeeper.terminals.jobs.listening import Listening
from gatekeeper.terminals.model import NewTerminal, Size, Terminal, Ticket
from gatekeeper.terminals.ports import Launch
from gatekeeper.terminals.protocol import ticket as protocol
from gatekeeper.terminals.reporting import Reporting
from gatekeeper.terminals.service import AttachService, DriveService, Seeing, TerminalService
from gatekeeper.terminals.settings import ProfileSettings
from waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gatekeeper.kernel.ids import TerminalId
    from gatekeeper.terminals.ports import Logins

DANA = Principal(
    issuer="https://i", subject="dana", kind=PrincipalKind.HUMAN, groups=frozenset({"eng"})
)
EMIL = replace(DANA, subject="emil")
OLGA = replace(DANA, subject="olga", groups=frozenset({"operators"}))
PROFILES = {
    profile.name: profile.profile()
    for profile in (
        ProfileSettings(name="shell", any_command=True, bundles=True, max_ttl_seconds=7_200),
        ProfileSettings(name="fixed", command=("/bin/date",)),
        ProfileSettings(name="tool", command=("./tool",), bundles=True),
    )
}
GRANT = rules.Grant(
    name="all", who=rules.Who(groups=frozenset({"eng"})), plane="terminals",
    targets=("local",), roles=("shell", "fixed", "tool"), max_ttl=timedelta(hours=1),
)  # fmt: skip


@dataclass
class Policies:
    policy: rules.Policy = field(
        default_factory=lambda: rules.Policy(
            grants=(GRANT,),
            limits=rules.Limits(sessions_per_principal=200, requests_per_minute=100_000),
        )
    )

    def current(self) -> rules.Policy:
        return self.policy


def wanted(**changes: Any) -> NewTerminal:
    return replace(
        NewTerminal(
            profile="shell", command=(), shell=False, prompt=None, bundle=None, database=None,
            ttl=timedelta(minutes=5), size=Size(), reason="why", correlation_id="cor_test",
        ),
        **changes,
    )  # fmt: skip


@dataclass
class World:
    dsn: Secret
    pool: Pool
    folder: Path
    launcher: FakeLauncher = field(default_factory=FakeLauncher)
    policies: Policies = field(default_factory=Policies)
    logins: Logins | None = None

    def __post_init__(self) -> None:
        self.store = PostgresTerminalStore(self.pool)
        self.launchers = {"local": self.launcher}
        self.tickets = TicketKeys(self.folder / "tickets", clock=SystemClock())
        self.tickets.begin()
        seeing = Seeing(lambda principal: "operators" in principal.groups)
        self.attaching = AttachService(
            store=self.store, tickets=self.tickets, issuer="https://gk", seeing=seeing,
            gateway_url="wss://gateway", lifetime=timedelta(seconds=60), random=SystemRandom(),
        )  # fmt: skip
        self.driving = DriveService(
            store=self.store, launchers=self.launchers, seeing=seeing,
            recordings=FolderRecordings(self.folder / "recordings"),
        )  # fmt: skip
        self.reporting = Reporting(store=self.store, launchers=self.launchers)
        self._seeing = seeing

    @property
    def service(self) -> TerminalService:
        return TerminalService(
            store=self.store, runner="local", profiles=PROFILES, policies=self.policies,
            logins=self.logins, clock=SystemClock(), random=SystemRandom(), seeing=self._seeing,
        )  # fmt: skip

    async def create(self, principal: Principal = DANA, **changes: Any) -> Terminal:
        made = await self.service.create(principal, wanted(**changes))
        assert isinstance(made, Terminal), made
        return made

    async def ready(self, principal: Principal = DANA, **changes: Any) -> Terminal:
        """Create a terminal and wait until it takes clients."""
        made = await self.create(principal, **changes)
        return await self.reach(made.id, SessionStatus.READY)

    async def reach(
        self, terminal: TerminalId, status: SessionStatus, seconds: float = 10
    ) -> Terminal:
        async def there() -> Terminal | None:
            found = await self.store.get(terminal)
            return found if found is not None and found.status is status else None

        found: Terminal | None = await eventually(there, seconds)
        assert found is not None, await self.store.get(terminal)
        return found

    def claims(self, given: Any) -> dict[str, Any]:
        """Verify a ticket with the published keys alone, and return what it says."""
        assert isinstance(given, Ticket), given
        keys = KeySet.import_key_set({"keys": self.tickets.jwks()})
        token = jwt.decode(given.token, keys, algorithms=["RS256"])
        assert token.header["typ"] == protocol.TYPE
        return token.claims

    async def claimed(self, said: dict[str, Any]) -> str:
        """Use a ticket up, as a gateway does."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT outcome FROM gatekeeper.claim_ticket(%s, %s, %s, %s, to_timestamp(%s))",
                (said["jti"], said["epoch"], said["sid"], said["ins"], said["exp"]),
            )
            row = await cursor.fetchone()
        assert row is not None
        return str(row[0])

    async def report(self, *over: Terminal) -> None:
        """Have the runner report, and hear the answer."""
        said = self.launcher.report(*((one.id, one.instance) for one in over))
        self.launcher.heard(await self.reporting.take(said))

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode())).fetchall()

    async def events(self, terminal: Terminal | None = None) -> list[str]:
        """Return the kinds of the evidence, in its order."""
        return [
            event["kind"]
            for event in await self.evidence()
            if terminal is None or event["session"] == terminal.id
        ]

    async def evidence(self) -> list[dict[str, Any]]:
        return [
            row[0]
            for row in await self.rows("SELECT event FROM gatekeeper.audit_outbox ORDER BY id")
        ]

    def launching(self) -> Launching:
        return Launching(
            store=self.store, launchers=self.launchers, profiles=PROFILES, logins=self.logins
        )

    def ending(self) -> Terminating:
        return Terminating(store=self.store, launchers=self.launchers, logins=self.logins)

    def listening(self) -> Listening:
        return Listening(store=self.store, launchers=self.launchers, logins=self.logins)

    async def look(self, runner: str = "local") -> None:
        """Have the job that listens for a runner run now, to its end."""
        async with self.store.transaction() as unit:
            await unit.schedule_listening(runner)
        async with self.pool.connection() as connection:
            found = await jobs.claim(connection, LISTEN, free=1, share=1, busy={}, lease=30.0)
        assert len(found) == 1
        assert await handler(self.listening())(found) == [Settled()]

    @asynccontextmanager
    async def working(self, workers: int = 1) -> AsyncIterator[None]:
        running = [
            asyncio.create_task(
                Worker(
                    pool=self.pool, dsn=self.dsn, lanes={LAUNCH: 8, END: 8}, random=SystemRandom(),
                    handlers={LAUNCH: handler(self.launching()), END: handler(self.ending())},
                    backoff=Backoff(first=0.05, most=0.2),
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


@asynccontextmanager
async def terminal_world(dsn: str, folder: Path, **parts: Any) -> AsyncIterator[World]:
    pool = Pool(Secret(dsn), name="test", max_size=30)
    await pool.open()
    try:
        yield World(Secret(dsn), pool, folder, **parts)
    finally:
        await pool.close()


def new_terminal(**changes: Any) -> Terminal:
    """Make a terminal that runs a shell, for a launcher without a store."""
    now = datetime.now(UTC)  # noqa: TID251  # the store's clock
    made = Terminal(
        id=ids.terminal_id(SystemRandom().bytes(ids.RANDOM_BYTES)),
        instance=ids.instance_id(SystemRandom().bytes(ids.RANDOM_BYTES)),
        status=SessionStatus.PENDING, requester=DANA.key, requester_email=None, principal=DANA,
        runner="local", profile="shell", command=("/bin/sh",), shell=False, prompt=None,
        bundle=None, database=None, database_session=None, size=Size(), reason="", grant="all",
        ttl=timedelta(minutes=5), max_ttl=timedelta(hours=1), correlation_id="cor_contract",
        created_at=now, ready_at=None, expires_at=None, ended_at=None, cleaned_at=None,
        stages={}, ended=None, error=None,
    )  # fmt: skip
    return replace(made, **changes)


def launch_of(terminal: Terminal) -> Launch:
    return Launch(terminal=terminal, profile=PROFILES["shell"], seconds_left=300.0)
