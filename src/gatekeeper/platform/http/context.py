"""The correlation id of the request being served."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

HEADER: Final = "X-Correlation-ID"

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
"""Set for each request by the middleware; empty outside of one."""
