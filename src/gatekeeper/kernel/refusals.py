"""Refusals that every plane gives, in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatekeeper.kernel.errors import ErrorCode, Refusal

if TYPE_CHECKING:
    from gatekeeper.kernel.policy import Denied, NeedsApproval


def denied(decision: Denied | NeedsApproval) -> Refusal:
    return Refusal(
        code=ErrorCode.POLICY_DENIED,
        detail="the policy does not allow this",
        reasons=decision.explain(),
        hint="; ".join(decision.alternatives) or None,
    )


def key_reused() -> Refusal:
    return Refusal(
        code=ErrorCode.IDEMPOTENCY_CONFLICT,
        detail="this Idempotency-Key was used with another body",
        hint="use a new key for a new request",
    )


def too_many_requests(per_minute: int, wait: float) -> Refusal:
    return Refusal(
        code=ErrorCode.RATE_LIMIT_EXCEEDED,
        detail=f"more than {per_minute} requests a minute",
        retry_after=wait,
    )
