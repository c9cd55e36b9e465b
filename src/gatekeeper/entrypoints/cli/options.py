"""What was given before the command: `gk --profile P --server S -v ...`."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    profile: str | None = None
    server: str | None = None
    verbose: bool = False


chosen: ContextVar[Chosen] = ContextVar("chosen")
