"""Agent 3, forward request policy: what of the original request rules may hand on.

The headers are made anew from what a trusted proxy told, never copied from what arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import OriginalRequest


def forwarded_headers(request: OriginalRequest) -> dict[str, str]:
    """Return X-Forwarded-* as they describe the original request."""
    query = f"?{request.raw_query}" if request.raw_query else ""
    port = "" if request.port is None else f":{request.port}"
    return {
        "x-forwarded-for": request.client,
        "x-forwarded-method": request.method,
        "x-forwarded-proto": request.scheme,
        "x-forwarded-host": request.host + port,
        "x-forwarded-uri": request.raw_path + query,
    }
