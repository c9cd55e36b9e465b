"""What one connection to the decision port may cost. Each bound has a name and a unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of what arrives, and of how long it may take to."""

    head_bytes: int = 65_536
    target_bytes: int = 16_384
    value_bytes: int = 16_384
    """Of one header."""
    headers: int = 128
    body_bytes: int = 1_048_576
    """A body is no part of a decision. Proxies that are told to send it may; it is thrown away."""
    head_seconds: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_seconds: float = 30.0
    idle_seconds: float = 120.0
    """Between two requests. Longer than proxies keep a connection, so that they close it first."""
    linger_seconds: float = 5.0
    """For the other side to read what it was told last, and to close."""
    connections: int = 1_000
    """Of one worker; below the 1,024 open files that a process commonly may have."""
