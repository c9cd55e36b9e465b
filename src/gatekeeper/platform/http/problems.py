"""Problem responses (RFC 9457): the one table from error code to HTTP status."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from fastapi.responses import JSONResponse

from gatekeeper.kernel.errors import ErrorCode, GatekeeperError, Refusal
from gatekeeper.platform.http import context
from gatekeeper.wire.problems import PROBLEM_MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

PROBLEM_REFERENCE: Final = "#/components/schemas/Problem"

STATUS: Final[Mapping[ErrorCode, int]] = MappingProxyType(
    {
        ErrorCode.VALIDATION_ERROR: 422,
        ErrorCode.AUTHENTICATION_ERROR: 401,
        ErrorCode.POLICY_DENIED: 403,
        ErrorCode.NOT_FOUND: 404,
        ErrorCode.METHOD_NOT_ALLOWED: 405,
        ErrorCode.IDEMPOTENCY_CONFLICT: 409,
        ErrorCode.STATE_CONFLICT: 409,
        ErrorCode.RECORDING_DELETED: 410,
        ErrorCode.PAYLOAD_TOO_LARGE: 413,
        ErrorCode.RATE_LIMIT_EXCEEDED: 429,
        ErrorCode.SESSION_LIMIT_EXCEEDED: 429,
        ErrorCode.INTERNAL_ERROR: 500,
        ErrorCode.TARGET_MISCONFIGURED: 502,
        ErrorCode.TARGET_REFUSED: 502,
        ErrorCode.AGENT_REJECTED: 502,
        ErrorCode.REVOCATION_INCOMPLETE: 502,
        ErrorCode.SERVICE_UNAVAILABLE: 503,
        ErrorCode.TARGET_UNREACHABLE: 503,
        ErrorCode.TARGET_BUSY: 503,
        ErrorCode.AGENT_UNREACHABLE: 503,
        ErrorCode.JOB_EXPIRED: 504,
        ErrorCode.TICKET_REFUSED: 401,
        ErrorCode.BUNDLE_REFUSED: 422,
        ErrorCode.RUNNER_REJECTED: 502,
        ErrorCode.RUNNER_UNREACHABLE: 503,
        ErrorCode.QUEUE_FULL: 503,
        ErrorCode.SANDBOX_UNAVAILABLE: 503,
    }
)

TITLES: Final[Mapping[ErrorCode, str]] = MappingProxyType(
    {code: code.replace("_", " ").capitalize() for code in ErrorCode}
)

RETRYABLE: Final = frozenset(
    {
        ErrorCode.RATE_LIMIT_EXCEEDED,
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.TARGET_UNREACHABLE,
        ErrorCode.TARGET_BUSY,
        ErrorCode.AGENT_UNREACHABLE,
        ErrorCode.JOB_EXPIRED,
        ErrorCode.RUNNER_UNREACHABLE,
        ErrorCode.QUEUE_FULL,
    }
)


class RefusedError(Exception):
    """Carries a refusal from a route to the one place that writes problems."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def granted(answer: T | Refusal) -> T:
    """Return what was asked for, or carry its refusal to where problems are written."""
    if isinstance(answer, Refusal):
        raise RefusedError(answer)
    return answer


def problem_of(refusal: Refusal) -> Problem:
    return Problem(
        type=f"urn:gatekeeper:problem:{refusal.code}",
        title=TITLES[refusal.code],
        status=STATUS[refusal.code],
        code=refusal.code,
        detail=refusal.detail,
        correlation_id=context.correlation_id.get(),
        retryable=refusal.code in RETRYABLE,
        reasons=refusal.reasons,
        hint=refusal.hint,
    )


def refusal_response(refusal: Refusal) -> JSONResponse:
    """Write a refusal as a problem, with `Retry-After` and a challenge where they belong."""
    problem = problem_of(refusal)
    return JSONResponse(
        problem.model_dump(mode="json", by_alias=True, exclude_none=True),
        status_code=problem.status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers=_headers(refusal),
    )


def error_response(error: GatekeeperError) -> JSONResponse:
    """Write an error of ours; its detail was made by us, so it may be shown."""
    return refusal_response(Refusal(code=error.code, detail=error.detail))


def _headers(refusal: Refusal) -> dict[str, str]:
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after)))
    if refusal.code is ErrorCode.AUTHENTICATION_ERROR:
        headers["WWW-Authenticate"] = 'Bearer realm="gatekeeper"'
    return headers


_DESCRIPTIONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "No valid token.",
        403: "Refused by the policy.",
        404: "There is no such thing that you may see.",
        409: "It contradicts what is there.",
        410: "It was deleted when its time was over.",
        413: "Too large.",
        422: "The request is not valid, or could not be read.",
        429: "Too many requests or sessions; see Retry-After.",
        500: "Something failed on our side.",
        502: "The agent or the target refused.",
        503: "A neighbour does not answer; try again.",
        504: "It took too long.",
    }
)


def problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Declare which problems routes may answer with, so that clients and tests know.

    A body that is no JSON is a 422 like one that is not valid; there is no 400.
    """
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": PROBLEM_REFERENCE}}},
        }
        for status in statuses
    }


EVERYWHERE: Final = (413, 500)
"""What every route may answer: the limit on bodies, and a fault of ours."""
OF_CALLERS: Final = (401, 422, 503)
"""What every route that knows its caller may answer as well; 503 is the store's, or an issuer's."""


def text_answer(media_type: str, description: str) -> dict[int | str, dict[str, object]]:
    """Declare an answer that is streamed as text."""
    return {
        200: {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}
    }
