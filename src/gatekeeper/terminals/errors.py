"""What can go wrong in this plane, and its foreseen refusals.

GatekeeperError
├── RunnerUnreachableError     it did not answer; retryable
├── RunnerRejectedError        it refused the order, or its answer is not believed
├── SandboxUnavailableError    this machine offers none that may be used
└── BundleRefusedError         not what was asked for, or not allowed
"""

from __future__ import annotations

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError


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
