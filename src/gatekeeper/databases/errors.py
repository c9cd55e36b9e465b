"""What can go wrong in this plane: errors of a target by whose fault, and foreseen refusals.

GatekeeperError
├── TargetUnreachableError     network, start-up, too many connections; retryable
├── TargetBusyError            a lock or a serialisation failure; retryable
├── TargetMisconfiguredError   a GRANT or a helper is missing; `gk target doctor` names it
└── TargetRefusedError         the helpers refused the request itself
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.kernel.ttl import format_ttl

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import timedelta

    from gatekeeper.databases.model import Target
    from gatekeeper.kernel.session import SessionStatus


class TargetUnreachableError(GatekeeperError):
    """The target did not answer, or has no connection to give. Trying again can help."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.TARGET_UNREACHABLE, detail, retryable=True)


class TargetBusyError(GatekeeperError):
    """The target answered that another transaction was in the way. Trying again can help."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.TARGET_BUSY, detail, retryable=True)


class TargetMisconfiguredError(GatekeeperError):
    """The target is not, or not wholly, set up for Gatekeeper."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.TARGET_MISCONFIGURED, detail)


class TargetRefusedError(GatekeeperError):
    """The target's own rules refused the request: pack, TTL ceiling, name or verifier."""

    def __init__(self, detail: str) -> None:
        super().__init__(ErrorCode.TARGET_REFUSED, detail)


def unknown_target(name: str, known: Collection[str]) -> Refusal:
    return Refusal(
        code=ErrorCode.NOT_FOUND,
        detail=f"there is no target {name!r}",
        reasons=(f"known targets: {', '.join(sorted(known)) or 'none'}",),
        hint=_nearest(name, known) or "gk target list shows what you may ask for",
    )


def unknown_role(role: str, target: Target) -> Refusal:
    return Refusal(
        code=ErrorCode.VALIDATION_ERROR,
        detail=f"role: target {target.name!r} has no role {role!r}",
        reasons=(f"its roles: {', '.join(target.roles)}",),
        hint=_nearest(role, target.roles),
    )


def _nearest(name: str, known: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {found[0]!r}?" if found else None


def not_a_verifier() -> Refusal:
    return Refusal(
        code=ErrorCode.VALIDATION_ERROR,
        detail="credential.verifier: expected a SCRAM-SHA-256 verifier with a 16-byte salt",
        hint="gk makes it; a password is never sent",
    )


def ttl_out_of_bounds(ttl: timedelta, target: Target) -> Refusal | None:
    if target.min_ttl <= ttl <= target.max_ttl:
        return None
    return Refusal(
        code=ErrorCode.VALIDATION_ERROR,
        detail=f"ttl: {format_ttl(ttl)} is outside what target {target.name!r} allows",
        reasons=(f"from {format_ttl(target.min_ttl)} to {format_ttl(target.max_ttl)}",),
    )


def no_such_session(session: str) -> Refusal:
    return Refusal(
        code=ErrorCode.NOT_FOUND,
        detail=f"there is no session {session!r} that you may see",
        hint="gk session list shows yours",
    )


def not_ready(status: SessionStatus) -> Refusal:
    return Refusal(
        code=ErrorCode.STATE_CONFLICT,
        detail=f"the session is {status}; only a ready session can be extended",
        hint="ask for a new session",
    )


def lives_too_long(most: timedelta) -> Refusal:
    return Refusal(
        code=ErrorCode.POLICY_DENIED,
        detail="the session would live longer than its grant allows",
        reasons=(f"at most {format_ttl(most)} from when it became ready",),
        hint="ask for a shorter time, or for a new session",
    )


def too_many_sessions(most: int) -> Refusal:
    return Refusal(
        code=ErrorCode.SESSION_LIMIT_EXCEEDED,
        detail=f"you have {most} open sessions, which is the most the policy allows",
        hint="gk session revoke ends one",
    )
