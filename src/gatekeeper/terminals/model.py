"""The frozen values of the terminal plane."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from gatekeeper.kernel.terminal import term

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from gatekeeper.kernel.errors import Failure
    from gatekeeper.kernel.identity import Principal
    from gatekeeper.kernel.ids import SessionId, TerminalId
    from gatekeeper.kernel.session import SessionStatus

T = TypeVar("T")

MAX_COLUMNS: Final = term.MAX_COLUMNS
MAX_ROWS: Final = term.MAX_ROWS
DEFAULT_COLUMNS: Final = 80
DEFAULT_ROWS: Final = 24

Mode = term.Mode


class Stage(StrEnum):
    """What a terminal has come to, in this order; each is stamped once, some never."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    STARTED = "started"
    FETCHED = "fetched"
    VERIFIED = "verified"
    INSTALLED = "installed"
    FIRST_BYTE = "first_byte"


class Ending(StrEnum):
    """Why a terminal is no longer there."""

    EXITED = "exited"
    """The command ended by itself; there is an exit code or a signal."""
    EXPIRED = "expired"
    """Its time was over."""
    IDLE = "idle"
    """Nothing was typed and nothing was written for too long."""
    REVOKED = "revoked"
    """Somebody ended it."""
    OUTPUT_LIMIT = "output_limit"
    """It wrote more than a terminal may."""
    BUNDLE_REFUSED = "bundle_refused"
    """What it was to run was not what was asked for, or not allowed."""
    INSTALL_FAILED = "install_failed"
    RECORDING_FAILED = "recording_failed"
    """It could not be recorded any more: what leaves no evidence does not go on."""
    RUNNER_LOST = "runner_lost"
    """The process that held it is gone, and its sandbox with it."""
    LAUNCH_FAILED = "launch_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    columns: int = DEFAULT_COLUMNS
    rows: int = DEFAULT_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An archive that is fetched, held against its hash, unpacked, and installed in view."""

    url: str
    sha256: str | None
    """64 lower-case hex digits; None only for hosts that the runner's settings exempt."""
    install: tuple[str, ...] = ()
    """An argument list, run in the terminal before the command; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseWanted:
    """A database login that lives and dies with the terminal."""

    target: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What may be run under a name that the policy knows as a role.

    `command` is what runs when nobody says otherwise; `any_command` and `bundles` say
    whether a caller may say otherwise. `network` is either none at all or the machine's.
    """

    name: str
    command: tuple[str, ...]
    any_command: bool = False
    bundles: bool = False
    network: bool = False
    max_ttl: timedelta
    idle: timedelta
    memory_bytes: int
    processes: int
    cpu_percent: int
    disk_bytes: int
    output_bytes: int
    record_input: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTerminal:
    """A request as the control plane understood it, before any decision.

    `command` is an argument list; `shell` says that it is one string for `sh -c` instead
    (the list then has that one entry); empty means the profile's own.
    """

    profile: str
    command: tuple[str, ...]
    shell: bool
    prompt: str | None
    """Written to the terminal's input when the command has started."""
    bundle: Bundle | None
    database: DatabaseWanted | None
    ttl: timedelta | None
    size: Size
    reason: str
    idempotency_key: str | None = None
    body_sha256: str = ""
    correlation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a terminal ended, and what outlives it."""

    ending: Ending
    exit_code: int | None = None
    signal: int | None = None
    last_screen: str | None = None
    """The visible lines, at most `MAX_SCREEN_CHARS` of the wire."""
    recording_head: str | None = None
    """Of the recording's hash chain: 64 hex digits."""
    recording_bytes: int = 0
    output_bytes: int = 0
    signed: str | None = None
    """The runner's receipt, of one that it told exactly so."""

    def with_more(self, told: Ended | None) -> Ended:
        """Add what is told later; why it ended, and what was known before, stand.

        What comes of it is nobody's to have signed.
        """
        if told is None:
            return self
        return Ended(
            ending=self.ending,
            exit_code=_first(self.exit_code, told.exit_code),
            signal=_first(self.signal, told.signal),
            last_screen=_first(self.last_screen, told.last_screen),
            recording_head=_first(told.recording_head, self.recording_head),
            recording_bytes=max(self.recording_bytes, told.recording_bytes),
            output_bytes=max(self.output_bytes, told.output_bytes),
        )


def _first(one: T | None, other: T | None) -> T | None:
    return other if one is None else one


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """One terminal. All times are the store's clock.

    `instance` names one launch of it: tickets, gateways and runners speak of that launch,
    so nothing that was meant for an earlier one reaches a later one.
    """

    id: TerminalId
    status: SessionStatus
    requester: str
    requester_email: str | None
    principal: Principal
    """Who asked, as they were then: the database login is decided for them again."""
    runner: str
    instance: str
    profile: str
    command: tuple[str, ...]
    shell: bool
    prompt: str | None
    bundle: Bundle | None
    database: DatabaseWanted | None
    database_session: SessionId | None
    size: Size
    reason: str
    grant: str
    ttl: timedelta
    max_ttl: timedelta
    correlation_id: str
    created_at: datetime
    ready_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    cleaned_at: datetime | None
    stages: Mapping[Stage, datetime]
    ended: Ended | None
    error: Failure | None
    sandbox: str | None = None
    """The tier that holds it."""
    events_taken: int = 0
    """The number of the last event of its runner that was applied."""
    recording_deleted_at: datetime | None = None
    """When its recording's time was over; from then on nobody is given it."""

    @property
    def has_turn(self) -> bool:
        """Whether it was given a place, so that something of it may be at the runner."""
        return Stage.SCHEDULED in self.stages


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalFilter:
    """Which terminals to list, and where the page starts; no `statuses`: of all."""

    requester: str | None = None
    statuses: frozenset[SessionStatus] = frozenset()
    limit: int = 50
    before: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Leave to attach once. `token` is the signed ticket (a secret of its caller)."""

    token: str
    url: str
    """Of the gateway: `ws://` or `wss://`."""
    mode: Mode
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A link that lets whoever is signed in, and has its secret, watch until it is over."""

    id: str
    terminal: TerminalId
    created_by: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShare:
    """A share, with its secret: it is shown this once."""

    share: Share
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalChange:
    """One step of a terminal, as watchers are told. `cursor` orders them."""

    cursor: tuple[int, int]
    terminal: TerminalId
    requester: str
    profile: str
    status: SessionStatus
    at: datetime
