"""What is known of the request being served: its correlation id, and its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

from gatekeeper.kernel.identity import Principal

HEADER: Final = "X-Correlation-ID"

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
"""Set for each request by the middleware; empty outside of one."""

Authenticate = Callable[..., Awaitable[Principal]]
"""A dependency of routes: it returns who calls, or refuses the request."""
