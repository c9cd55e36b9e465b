"""Orders to a runner, its results, and its reports. All travel in signed envelopes."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from gatekeeper.kernel.ids import SESSION_ID, TERMINAL_ID
from gatekeeper.wire.base import Request
from gatekeeper.wire.terminals import (
    MAX_ARGUMENT_CHARS,
    MAX_ARGUMENTS,
    MAX_COLUMNS,
    MAX_INPUT_CHARS,
    MAX_PROMPT_CHARS,
    MAX_ROWS,
    MAX_SCREEN_CHARS,
    MAX_WAIT_PATTERN_CHARS,
    Sha256Text,
    UrlText,
)

ORDERS_PATH: Final = "/orders"
"""Of a runner."""
REPORT_PATH: Final = "/runners/report"
"""Of a control plane."""
MAX_REPORTED: Final = 1_000
"""Terminals, and events, of one report."""
MAX_RECEIPT_CHARS: Final = 16_384
"""Of one statement: the name of somebody who attached is most of it."""

TerminalIdText = Annotated[str, Field(pattern=f"^{TERMINAL_ID.pattern}$")]
InstanceText = Annotated[str, Field(pattern=r"^[a-z2-7]{20}$")]
Arguments = Annotated[
    tuple[Annotated[str, Field(max_length=MAX_ARGUMENT_CHARS)], ...],
    Field(max_length=MAX_ARGUMENTS),
]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class _Order(Request):
    id: Annotated[str, Field(min_length=1, max_length=128)]
    """The idempotency key: the same id is the same work."""
    correlation_id: Annotated[str, Field(min_length=1, max_length=64)]
    terminal: TerminalIdText
    instance: InstanceText


class BundleOrder(Request):
    url: UrlText
    sha256: Sha256Text | None
    install: Arguments


class Limits(Request):
    memory_bytes: Count
    processes: Count
    cpu_percent: Count
    disk_bytes: Count
    output_bytes: Count
    idle_seconds: Count


class LaunchOrder(_Order):
    type: Literal["launch"] = "launch"
    command: Arguments
    shell: bool
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)] | None
    bundle: BundleOrder | None
    database: bool
    """Whether a database login will be bound: the runner makes its password now."""
    columns: Annotated[int, Field(ge=1, le=MAX_COLUMNS)]
    rows: Annotated[int, Field(ge=1, le=MAX_ROWS)]
    seconds_left: Annotated[float, Field(gt=0)]
    network: bool
    record_input: bool
    limits: Limits


class EndOrder(_Order):
    type: Literal["end"] = "end"
    why: Literal["expired", "revoked", "idle", "exited", "launch_failed"]


class BindOrder(_Order):
    type: Literal["bind"] = "bind"
    session: Annotated[str, Field(pattern=f"^{SESSION_ID.pattern}$")]
    host: Annotated[str, Field(max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)]
    database: Annotated[str, Field(max_length=63)]
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"]
    username: Annotated[str, Field(max_length=63)]


class InputOrder(_Order):
    type: Literal["input"] = "input"
    data: Annotated[str, Field(max_length=MAX_INPUT_CHARS)]


class ScreenOrder(_Order):
    type: Literal["screen"] = "screen"


class WaitOrder(_Order):
    type: Literal["wait"] = "wait"
    text: Annotated[str, Field(min_length=1, max_length=MAX_WAIT_PATTERN_CHARS)]
    seconds: Annotated[float, Field(ge=0, le=30)]


Order = Annotated[
    LaunchOrder | EndOrder | BindOrder | InputOrder | ScreenOrder | WaitOrder,
    Field(discriminator="type"),
]
ORDER: Final[TypeAdapter[Order]] = TypeAdapter(Order)


class Attested(Request):
    """What comes into the evidence: the runner signs a statement of it there and then."""

    receipt: Annotated[str, Field(max_length=MAX_RECEIPT_CHARS, pattern=r"^[\x21-\x7e]*$")] = ""
    """Over `statement`; empty until it is signed."""


class EndedView(Request):
    """How a terminal ended. `ending` is one of the plane's words for it."""

    ending: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = None
    signal: Annotated[int, Field(ge=1, le=64)] | None = None
    last_screen: Annotated[str, Field(max_length=MAX_SCREEN_CHARS)] | None = None
    recording_head: Sha256Text | None = None
    recording_bytes: Count = 0
    output_bytes: Count = 0


class LaunchedResult(Attested):
    type: Literal["launched"] = "launched"
    terminal: TerminalIdText
    instance: InstanceText
    address: Annotated[str, Field(pattern=r"^(unix:/|tcp:).{1,250}$")]
    sandbox: Literal["bubblewrap", "landlock", "job", "none"]
    already: bool
    verifier: Annotated[str, Field(max_length=256)] | None


class GoneResult(Attested):
    type: Literal["gone"] = "gone"
    terminal: TerminalIdText
    instance: InstanceText
    existed: bool
    gone: bool
    processes_ended: Count
    ended: EndedView | None
    left: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=50)] = ()


class ScreenResult(Request):
    type: Literal["screen"] = "screen"
    lines: Annotated[
        tuple[Annotated[str, Field(max_length=4 * MAX_COLUMNS)], ...], Field(max_length=MAX_ROWS)
    ]
    columns: int
    rows: int


class DoneResult(Request):
    type: Literal["done"] = "done"
    found: bool = True
    """Of `wait`: whether the text was seen."""


class FailedResult(Request):
    type: Literal["failed"] = "failed"
    code: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=2_000)]
    retryable: bool


Result = Annotated[
    LaunchedResult | GoneResult | ScreenResult | DoneResult | FailedResult,
    Field(discriminator="type"),
]
RESULT: Final[TypeAdapter[Result]] = TypeAdapter(Result)


class StageEvent(Request):
    type: Literal["stage"] = "stage"
    stage: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    seconds_ago: Annotated[float, Field(ge=0)]


class AttachedEvent(Attested):
    """A gateway's client began to watch."""

    type: Literal["attached"] = "attached"
    subject: Annotated[str, Field(max_length=1_024)]
    mode: Literal["read", "write", "moderate"]
    protocol: Literal["gk.term.v1", "tty"]


class LeaseEvent(Attested):
    """The input passed from one to another."""

    type: Literal["lease"] = "lease"
    holder: Annotated[str, Field(max_length=1_024)] | None


class SegmentEvent(Attested):
    """A segment of the recording was closed: the chain's head so far."""

    type: Literal["segment"] = "segment"
    number: Count
    head: Sha256Text
    bytes: Count


class EndedEvent(Attested):
    type: Literal["ended"] = "ended"
    ended: EndedView


TerminalEvent = Annotated[
    StageEvent | AttachedEvent | LeaseEvent | SegmentEvent | EndedEvent,
    Field(discriminator="type"),
]


class TerminalReport(Request):
    """What a runner has to tell of one terminal. `first` is the number of its first event: they
    are counted from 1, and told again until the report that holds them was answered.
    """

    terminal: TerminalIdText
    instance: InstanceText
    live: bool
    first: Count
    events: Annotated[tuple[TerminalEvent, ...], Field(max_length=MAX_REPORTED)]


class RunnerReport(Request):
    """Sent when something happened, and every few seconds anyway: who is here, and what is new.

    `boot` names one life of the runner's process: what an earlier one held is gone.
    """

    runner: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
    boot: InstanceText
    sandbox: Literal["bubblewrap", "landlock", "job", "none"]
    capacity: Count
    terminals: Annotated[tuple[TerminalReport, ...], Field(max_length=MAX_REPORTED)]


class ReportAnswer(Request):
    """What was taken: for each instance the number of the last event; and which are to end."""

    taken: dict[InstanceText, Count]
    end: tuple[InstanceText, ...]


_ENDED: Final = set(EndedView.model_fields) - {"last_screen"}
_FACTS: Final[dict[str, Any]] = {
    "launched": {"type", "sandbox"},
    "gone": {"type": True, "existed": True, "gone": True, "processes_ended": True, "ended": _ENDED},
    "attached": {"type", "subject", "mode", "protocol"},
    "lease": {"type", "holder"},
    "segment": {"type", "number", "head", "bytes"},
    "ended": {"type": True, "ended": _ENDED},
}
"""What evidence keeps of each: no screen, no verifier."""


def statement(terminal: str, instance: str, said: Attested) -> dict[str, Any]:
    """Return what a runner signs for the evidence: of which terminal and launch, and the facts."""
    kind: str = said.type  # type: ignore[attr-defined]  # each of them has one
    facts = said.model_dump(mode="json", by_alias=True, include=_FACTS[kind])
    return {"terminal": terminal, "instance": instance, "facts": facts}
