"""What can go wrong in this plane, and its foreseen refusals.

GatekeeperError
├── RunnerUnreachableError     it did not answer; retryable
├── RunnerRejectedError        it refused the order, or its answer is not believed
├── SandboxUnavailableError    this machine offers none that may be used
└── BundleRefusedError         not what was asked for, or not allowed
"""

from __future__ import annotations

import difflib
from datetime import UTC
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.kernel.ttl import format_ttl

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from gatekeeper.kernel.session import SessionStatus
    from gatekeeper.terminals.model import Mode, Profile

QUEUE_FULL_SECONDS: Final = 10.0
"""When it is worth asking again for a place in a full queue."""


class RunnerUnreachableError(GatekeeperError):
    """The runner did not answer. Trying again can help."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.RUNNER_UNREACHABLE, detail, retryable=True)


class RunnerRejectedError(GatekeeperError):
    """The runner refused an order, or what answered is not the runner."""

    def __init__(self, detail: str, *, retryable: bool = False) -> None:
        super().__init__(ErrorCode.RUNNER_REJECTED, detail, retryable=retryable)


class SandboxUnavailableError(GatekeeperError):
    """There is no sandbox here that terminals may run in."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.SANDBOX_UNAVAILABLE, detail)


class BundleRefusedError(GatekeeperError):
    """A bundle is not what was asked for, or not allowed. The text is safe to show."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.BUNDLE_REFUSED, detail)


def unknown_profile(name: str, known: Collection[str]) -> Refusal:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return Refusal(
        code=ErrorCode.NOT_FOUND,
        detail=f"there is no profile {name!r}",
        reasons=(f"known profiles: {', '.join(sorted(known))}",),
        hint=f"did you mean {close[0]!r}?" if close else None,
    )


def own_command_only(profile: Profile) -> Refusal:
    return Refusal(
        code=ErrorCode.VALIDATION_ERROR,
        detail=f"command: profile {profile.name!r} runs its own command and no other",
        hint="leave it out, or ask for a profile that takes any",
    )


def no_bundles(profile: Profile) -> Refusal:
    return Refusal(
        code=ErrorCode.VALIDATION_ERROR,
        detail=f"bundle: profile {profile.name!r} takes none",
        hint="ask for a profile that does",
    )


def ttl_out_of_bounds(profile: Profile) -> Refusal:
    return Refusal(
        code=ErrorCode.VALIDATION_ERROR,
        detail=f"ttl: profile {profile.name!r} allows at most {format_ttl(profile.max_ttl)}",
    )


def no_databases() -> Refusal:
    return Refusal(
        code=ErrorCode.VALIDATION_ERROR,
        detail="database: terminals have no database logins here",
    )


def denied_database(reasons: tuple[str, ...]) -> Refusal:
    return Refusal(
        code=ErrorCode.POLICY_DENIED,
        detail="the policy does not allow the database login of this terminal",
        reasons=reasons,
    )


def too_many_terminals(most: int) -> Refusal:
    return Refusal(
        code=ErrorCode.SESSION_LIMIT_EXCEEDED,
        detail=f"you have {most} open terminals, which is the most the policy allows",
        hint="end one",
    )


def queue_full(most: int) -> Refusal:
    return Refusal(
        code=ErrorCode.QUEUE_FULL,
        detail=f"there is no place for another terminal, and {most} wait for one",
        retry_after=QUEUE_FULL_SECONDS,
    )


def no_such_terminal(terminal: str) -> Refusal:
    return Refusal(
        code=ErrorCode.NOT_FOUND, detail=f"there is no terminal {terminal!r} that you may see"
    )


def no_such_share() -> Refusal:
    return Refusal(
        code=ErrorCode.NOT_FOUND,
        detail="there is no such link, or it is over",
        hint="ask whoever shared the terminal for another",
    )


def no_recording(terminal: str) -> Refusal:
    return Refusal(
        code=ErrorCode.NOT_FOUND, detail=f"there is no recording of terminal {terminal!r}"
    )


def recording_deleted(terminal: str, at: datetime) -> Refusal:
    return Refusal(
        code=ErrorCode.RECORDING_DELETED,
        detail=f"the recording of terminal {terminal!r} was deleted at"
        f" {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} by retention",
        hint="the evidence has its hashes still: a copy can be held against them",
    )


def not_ready(status: SessionStatus) -> Refusal:
    return Refusal(
        code=ErrorCode.STATE_CONFLICT,
        detail=f"the terminal is {status}; this needs one that is ready",
    )


def too_many_waits(most: int) -> Refusal:
    return Refusal(
        code=ErrorCode.RATE_LIMIT_EXCEEDED,
        detail=f"at most {most} waits of one caller are under way at a time",
        retry_after=1.0,
    )


def not_in_this_mode(mode: Mode) -> Refusal:
    return Refusal(
        code=ErrorCode.POLICY_DENIED,
        detail=f"you may not attach to this terminal in mode {mode}",
        reasons=("at the terminals of others operators watch, or take the input for all to see",),
        hint="mode read watches it, mode moderate may also take its input over",
    )


def only_its_owner_shares() -> Refusal:
    return Refusal(
        code=ErrorCode.POLICY_DENIED,
        detail="only whoever asked for a terminal shares it",
        hint="ask them for a link",
    )
