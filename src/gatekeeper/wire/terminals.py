"""Terminals, as the API speaks them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from gatekeeper.wire.base import WHOLE, Request, Response
from gatekeeper.wire.sessions import (
    NameText,
    ReasonText,
    RoleText,
    SessionError,
    TargetText,
    TtlText,
)

MAX_ARGUMENTS: Final = 64
MAX_ARGUMENT_CHARS: Final = 4_096
MAX_PROMPT_CHARS: Final = 10_000
MAX_URL_CHARS: Final = 2_048
MAX_COLUMNS: Final = 1_000
MAX_ROWS: Final = 500
MAX_INPUT_CHARS: Final = 16_384
MAX_SCREEN_CHARS: Final = 65_536
MAX_WAIT_PATTERN_CHARS: Final = 256
MAX_ORIGIN_CHARS: Final = 300
MAX_SHARE_MINUTES: Final = 1_440

TerminalStatusText = Literal[
    "denied", "pending", "ready", "failed", "ended", "revoked", "expired", "cleaned"
]
ModeText = Literal["read", "write", "moderate"]
Sha256Text = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
UrlText = Annotated[str, Field(max_length=MAX_URL_CHARS, pattern=r"^https?://[\x21-\x7e]+$")]
ArgumentText = Annotated[str, Field(max_length=MAX_ARGUMENT_CHARS, pattern=r"^[^\x00]*$")]
Arguments = Annotated[
    tuple[ArgumentText, ...],
    # A list of JSON, read by the web framework before it comes here; its items stay strict.
    Field(max_length=MAX_ARGUMENTS, strict=False),
]
Columns = Annotated[int, Field(ge=1, le=MAX_COLUMNS), WHOLE]
Rows = Annotated[int, Field(ge=1, le=MAX_ROWS), WHOLE]


class BundleRequest(Request):
    """An archive (zip, tar, tar.gz, tar.xz, tar.bz2, tar.zst is not) with what is to be run."""

    url: UrlText
    sha256: Sha256Text | None = None
    install: Arguments = ()


class DatabaseRequest(Request):
    """A database login that lives and dies with the terminal."""

    target: TargetText
    role: RoleText


class CreateTerminal(Request):
    """Ask for a terminal. `command` is an argument list, or one string for a shell in `shell`;
    with neither, the profile's own runs.
    """

    profile: NameText = "shell"
    command: Annotated[Arguments, Field(min_length=1)] | None = None
    shell: ArgumentText | None = None
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS, pattern=r"^[^\x00]*$")] | None = None
    bundle: BundleRequest | None = None
    database: DatabaseRequest | None = None
    ttl: TtlText | None = None
    columns: Columns = 80
    rows: Rows = 24
    reason: ReasonText = ""


class AttachRequest(Request):
    """Ask for a one-time ticket. A page's `origin` is taken from the request itself."""

    mode: ModeText = "write"


class TicketView(Response):
    """Connect to `url` with the subprotocols `gk.term.v1` and `ticket.<ticket>`; once."""

    url: str
    ticket: str
    mode: ModeText
    expires_at: datetime


class StageView(Response):
    stage: str
    at: datetime


class RecordingView(Response):
    bytes: int
    head: str | None = None
    deleted_at: datetime | None = None
    """When its time was over: it cannot be had any more."""


class DatabaseView(Response):
    target: str
    role: str
    session_id: str | None = None


class TerminalView(Response):
    terminal_id: str
    status: TerminalStatusText
    profile: str
    command: tuple[str, ...]
    requester: str
    reason: str
    created_at: datetime
    ttl_seconds: int
    stages: tuple[StageView, ...] = ()
    queue_place: int | None = None
    """How many are started before this one, while it waits for a place."""
    ready_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    cleaned_at: datetime | None = None
    ending: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    last_screen: str | None = None
    sandbox: str | None = None
    bundle_sha256: str | None = None
    database: DatabaseView | None = None
    recording: RecordingView | None = None
    error: SessionError | None = None
    correlation_id: str | None = None


class TerminalPage(Response):
    """One page, newest first; `next` is the cursor of the following page."""

    items: tuple[TerminalView, ...]
    next: str | None = None


class ProfileView(Response):
    """What may be run under a name, and whether the caller may."""

    profile: str
    command: tuple[str, ...]
    any_command: bool
    bundles: bool
    network: bool
    allowed: bool
    max_ttl: str | None = None
    reasons: tuple[str, ...] = ()


class ProfileList(Response):
    items: tuple[ProfileView, ...]
    sandbox: str | None = None
    """The tier that holds what is started now."""


class SendInput(Request):
    data: Annotated[str, Field(min_length=1, max_length=MAX_INPUT_CHARS)]


class ScreenView(Response):
    lines: tuple[str, ...]
    columns: int
    rows: int


class WaitForText(Request):
    text: Annotated[str, Field(min_length=1, max_length=MAX_WAIT_PATTERN_CHARS)]
    seconds: Annotated[int, Field(ge=0, le=30), WHOLE] = 10


class Waited(Response):
    found: bool


class ShareTerminal(Request):
    minutes: Annotated[int, Field(ge=1, le=MAX_SHARE_MINUTES), WHOLE] = 60


class ShareView(Response):
    """`url` carries the secret behind `#`; it is shown this once."""

    share_id: str
    url: str
    expires_at: datetime


class OpenShare(Request):
    secret: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]


class SharedTerminal(Response):
    terminal_id: str
    expires_at: datetime
    ticket: TicketView


class TerminalEventView(Response):
    """One change of a terminal, as `GET /terminals/events` streams it."""

    seq: int
    terminal_id: str
    status: TerminalStatusText
    profile: str
    at: datetime
