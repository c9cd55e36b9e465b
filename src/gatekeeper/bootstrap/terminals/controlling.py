"""The control plane's half of terminals, wired: routes, jobs, reports and ticket keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from gatekeeper.kernel.errors import InputError, UnavailableError
from gatekeeper.platform.crypto.signing import public_key
from gatekeeper.platform.postgres.notifications import Listener
from gatekeeper.platform.queue import Backoff, Worker
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.adapters.dispatch import handler
from gatekeeper.terminals.adapters.launchers.local import LocalLauncher
from gatekeeper.terminals.adapters.recordings import FolderRecordings
from gatekeeper.terminals.adapters.store import (
    CHANNEL,
    END,
    LAUNCH,
    LISTEN,
    PostgresTerminalStore,
)
from gatekeeper.terminals.jobs.ending import Terminating
from gatekeeper.terminals.jobs.launching import Launching
from gatekeeper.terminals.jobs.listening import Listening
from gatekeeper.terminals.jobs.retention import Retention
from gatekeeper.terminals.reporting import Reporting
from gatekeeper.terminals.service import AttachService, DriveService, Seeing, TerminalService
from gatekeeper.terminals.web.reports import BODY_LIMITS, Doorkeeper, report_routes
from gatekeeper.terminals.web.routes import attach_routes, drive_routes, terminal_routes
from gatekeeper.terminals.web.watch import TerminalWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from fastapi import APIRouter

    from gatekeeper.bootstrap.settings import ControlPlaneSettings
    from gatekeeper.bootstrap.surroundings import Surroundings
    from gatekeeper.platform.http.context import Authenticate
    from gatekeeper.terminals.adapters.tickets import TicketKeys
    from gatekeeper.terminals.ports import Launcher, Logins
    from gatekeeper.terminals.settings import TerminalSettings

    Work = Coroutine[object, object, None]

log = structlog.get_logger("gatekeeper.terminals")

LANES: Final = {LAUNCH: 16, END: 48, LISTEN: 8}
"""Jobs at a time of each lane: however many terminals end at once, launching has its own."""
LEASE_SECONDS: Final = 10.0
"""For so long at most the job of a control plane that was killed waits for another one, and with
it the end of a terminal. Every step is short, and safe when two take it."""
BACKOFF: Final = Backoff(first=0.1, most=10.0)
FORGET_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 600.0
"""Between two looks at all recordings: they are kept for days."""

__all__ = ["BODY_LIMITS", "LANES", "Terminals", "control_terminals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminals:
    """The terminals of a control plane, and what it runs for them."""

    routes: tuple[APIRouter, ...]
    background: Mapping[str, Callable[[], Work]]
    watch: TerminalWatch
    launchers: Mapping[str, Launcher]
    gateway_url: str
    listening: Listening

    async def begin(self) -> None:
        """Make the jobs that there always are."""
        await self.listening.schedule()

    def close_waiting(self) -> None:
        """End the requests that wait for something to happen."""
        self.watch.close()

    async def close(self) -> None:
        for launcher in self.launchers.values():
            await launcher.close()


def control_terminals(
    settings: ControlPlaneSettings,
    around: Surroundings,
    *,
    authenticate: Authenticate,
    tickets: TicketKeys,
    logins: Logins | None,
) -> Terminals | None:
    """Wire terminals; None: this control plane has none.

    Raises `InputError` for settings that contradict each other.
    """
    wanted = settings.terminals
    if wanted is None:
        return None
    if wanted.runner not in wanted.runners:
        msg = f"terminals.runner: {wanted.runner!r} is not one of terminals.runners"
        raise InputError(msg)
    launchers = _launchers(settings, wanted, around)
    store = PostgresTerminalStore(around.api_pool)
    watch = TerminalWatch(store)
    seeing = Seeing(around.is_operator)
    service = _service(wanted, around, store=store, logins=logins, seeing=seeing)
    listener = Listener(settings.store_dsn, CHANNEL, watch.heard, name="gk-terminal-watch")
    listening = Listening(
        store=PostgresTerminalStore(around.job_pool), launchers=launchers, logins=logins
    )
    worker = _worker(settings, around, launchers=launchers, logins=logins, listening=listening)
    return Terminals(
        routes=(
            terminal_routes(service=service, watch=watch, authenticate=authenticate),
            *_client_routes(
                settings,
                wanted,
                around,
                authenticate=authenticate,
                tickets=tickets,
                launchers=launchers,
                seeing=seeing,
            ),
            _reports(settings, wanted, around, launchers),
        ),
        background={
            "terminal jobs": worker.run,
            "terminal changes": listener.run,
            "ticket keys": tickets.run,
            "used tickets": lambda: _forget_used_tickets(PostgresTerminalStore(around.job_pool)),
            "recordings": lambda: _look_at_recordings(_retention(wanted, around)),
        },
        watch=watch,
        launchers=launchers,
        gateway_url=wanted.gateway_url,
        listening=listening,
    )


def _launchers(
    settings: ControlPlaneSettings, wanted: TerminalSettings, around: Surroundings
) -> Mapping[str, Launcher]:
    return {
        name: LocalLauncher(
            name=settings.name,
            key=around.key.private,
            runner=name,
            runner_key=public_key(runner.public_key),
            address=runner.address,
            capacity=runner.capacity,
            clock=around.clock,
            random=around.random,
        )
        for name, runner in wanted.runners.items()
    }


def _service(
    wanted: TerminalSettings,
    around: Surroundings,
    *,
    store: PostgresTerminalStore,
    logins: Logins | None,
    seeing: Seeing,
) -> TerminalService:
    return TerminalService(
        store=store,
        runner=wanted.runner,
        profiles={profile.name: profile.profile() for profile in wanted.profiles},
        policies=around.policies,
        logins=logins,
        clock=around.clock,
        random=around.random,
        seeing=seeing,
    )


def _client_routes(
    settings: ControlPlaneSettings,
    wanted: TerminalSettings,
    around: Surroundings,
    *,
    authenticate: Authenticate,
    tickets: TicketKeys,
    launchers: Mapping[str, Launcher],
    seeing: Seeing,
) -> tuple[APIRouter, ...]:
    store = PostgresTerminalStore(around.api_pool)
    attaching = AttachService(
        store=store,
        tickets=tickets,
        issuer=settings.public_url,
        gateway_url=wanted.gateway_url,
        lifetime=timedelta(seconds=wanted.ticket_seconds),
        random=around.random,
        seeing=seeing,
    )
    driving = DriveService(
        store=store,
        launchers=launchers,
        recordings=FolderRecordings(wanted.recordings),
        seeing=seeing,
    )
    return (
        attach_routes(service=attaching, public_url=settings.public_url, authenticate=authenticate),
        drive_routes(service=driving, authenticate=authenticate),
    )


def _reports(
    settings: ControlPlaneSettings,
    wanted: TerminalSettings,
    around: Surroundings,
    launchers: Mapping[str, Launcher],
) -> APIRouter:
    store = PostgresTerminalStore(around.api_pool)
    doorkeeper = Doorkeeper(
        name=settings.name,
        key=around.key.private,
        runner_keys={name: public_key(one.public_key) for name, one in wanted.runners.items()},
        clock=around.clock,
        random=around.random,
    )
    return report_routes(Reporting(store=store, launchers=launchers), doorkeeper)


def _worker(
    settings: ControlPlaneSettings,
    around: Surroundings,
    *,
    launchers: Mapping[str, Launcher],
    logins: Logins | None,
    listening: Listening,
) -> Worker:
    wanted = settings.terminals
    profiles = {p.name: p.profile() for p in wanted.profiles} if wanted is not None else {}
    store = PostgresTerminalStore(around.job_pool)
    launching = Launching(
        store=store,
        launchers=launchers,
        profiles=profiles,
        logins=logins,
        launched=around.keeper.terminal_launched,
    )
    ending = Terminating(
        store=store,
        launchers=launchers,
        logins=logins,
        cleaned=around.keeper.terminal_cleaned,
    )
    return Worker(
        pool=around.job_pool,
        dsn=settings.store_dsn,
        lanes=LANES,
        handlers={LAUNCH: handler(launching), END: handler(ending), LISTEN: handler(listening)},
        random=SystemRandom(),
        backoff=BACKOFF,
        lease_seconds=LEASE_SECONDS,
        finished=around.keeper.job_finished,
        on_dead=around.keeper.job_given_up,
    )


def _retention(wanted: TerminalSettings, around: Surroundings) -> Retention:
    days = wanted.keep_recordings_days
    return Retention(
        store=PostgresTerminalStore(around.job_pool),
        recordings=FolderRecordings(wanted.recordings),
        keep=None if days is None else timedelta(days=days),
        looked=around.keeper.recordings_looked_at,
    )


async def _look_at_recordings(retention: Retention) -> None:
    while True:
        try:
            await retention.look()
        except UnavailableError as error:
            log.warning("recordings are not looked at yet", error=error.code, why=error.detail)
        await asyncio.sleep(LOOK_SECONDS)


async def _forget_used_tickets(store: PostgresTerminalStore) -> None:
    while True:
        try:
            await store.forget_used_tickets()
        except UnavailableError as error:
            log.warning("used tickets are not forgotten yet", error=error.code)
        await asyncio.sleep(FORGET_SECONDS)
