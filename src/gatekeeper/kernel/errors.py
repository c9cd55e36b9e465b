"""Error codes, refusals and the exception every plane derives from.

A refusal that was foreseen is a *value*, `Refusal`; an exception is for what was
not. Codes are stable: a client may switch on them. The one table from code to
HTTP status is `platform/http/problems.py`.

    GatekeeperError            has a code, says whether trying again can help
    ├── InputError             the caller's data is wrong
    ├── UnavailableError       a neighbour did not answer; retryable
    └── IntegrityError         stored state contradicts itself; never retryable
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_MESSAGE_CHARS: Final = 2_000
"""Of a failure, as the wire takes it."""


class ErrorCode(StrEnum):
    """Stable codes of everything that can be refused or go wrong."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    POLICY_DENIED = "POLICY_DENIED"
    NOT_FOUND = "NOT_FOUND"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    STATE_CONFLICT = "STATE_CONFLICT"
    RECORDING_DELETED = "RECORDING_DELETED"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    SESSION_LIMIT_EXCEEDED = "SESSION_LIMIT_EXCEEDED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    TARGET_UNREACHABLE = "TARGET_UNREACHABLE"
    TARGET_MISCONFIGURED = "TARGET_MISCONFIGURED"
    TARGET_REFUSED = "TARGET_REFUSED"
    TARGET_BUSY = "TARGET_BUSY"
    REVOCATION_INCOMPLETE = "REVOCATION_INCOMPLETE"
    AGENT_UNREACHABLE = "AGENT_UNREACHABLE"
    AGENT_REJECTED = "AGENT_REJECTED"
    JOB_EXPIRED = "JOB_EXPIRED"
    TICKET_REFUSED = "TICKET_REFUSED"  # a code
    RUNNER_UNREACHABLE = "RUNNER_UNREACHABLE"
    RUNNER_REJECTED = "RUNNER_REJECTED"
    QUEUE_FULL = "QUEUE_FULL"
    BUNDLE_REFUSED = "BUNDLE_REFUSED"
    SANDBOX_UNAVAILABLE = "SANDBOX_UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that was understood and refused.

    `reasons` says why, one sentence each; `hint` says what to do next;
    `retry_after` is in seconds.
    """

    code: ErrorCode
    detail: str
    reasons: tuple[str, ...] = ()
    hint: str | None = None
    retry_after: float | None = None


class GatekeeperError(Exception):
    """Something unforeseen, with a stable code and no foreign payload in its text."""

    def __init__(self, code: ErrorCode, detail: str, *, retryable: bool = False) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed, or why its end has not been proven yet, as it is kept and shown."""

    code: str
    message: str
    retryable: bool

    def __post_init__(self) -> None:
        # What is left at a target has its holder's names in it: it must fit into an answer.
        object.__setattr__(self, "message", self.message[:MAX_MESSAGE_CHARS])

    @classmethod
    def of(cls, error: GatekeeperError) -> Failure:
        return cls(code=error.code, message=error.detail, retryable=error.retryable)


class InputError(GatekeeperError):
    """The caller's data is wrong; `detail` names the field and what was expected."""

    def __init__(self, detail: str, code: ErrorCode = ErrorCode.VALIDATION_ERROR) -> None:
        super().__init__(code, detail)


class UnavailableError(GatekeeperError):
    """A neighbour did not answer in time; trying again can help."""

    def __init__(self, detail: str, code: ErrorCode = ErrorCode.SERVICE_UNAVAILABLE) -> None:
        super().__init__(code, detail, retryable=True)


class IntegrityError(GatekeeperError):
    """Stored state contradicts itself: stop, and call a human."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.INTERNAL_ERROR, detail)
