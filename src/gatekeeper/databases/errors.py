"""What can go wrong at a target, by whose fault.

GatekeeperError
├── TargetUnreachableError     network, start-up, too many connections; retryable
├── TargetBusyError            a lock or a serialisation failure; retryable
├── TargetMisconfiguredError   a GRANT or a helper is missing; `gk target doctor` names it
└── TargetRefusedError         the helpers refused the request itself
"""

from __future__ import annotations

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError


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
