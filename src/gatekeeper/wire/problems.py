"""Errors on the wire: `application/problem+json` (RFC 9457) with our extension members."""

from __future__ import annotations

from typing import Final

from gatekeeper.wire.base import Response

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


class Problem(Response):
    """`code` is stable; `reasons` and `hint` are for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    correlation_id: str
    retryable: bool
    reasons: tuple[str, ...] = ()
    hint: str | None = None
