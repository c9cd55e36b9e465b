"""Durations as people write them: `90s`, `15m`, `4h`, `1d`, or parts together, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from gatekeeper.kernel.errors import InputError

MAX_TTL_TEXT_CHARS: Final = 32

PARTS: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


def parse_ttl(text: str) -> timedelta:
    """Read a duration.

    Raises `InputError` for anything else, zero and more than a year included.
    """
    match = PARTS.fullmatch(text) if 0 < len(text) <= MAX_TTL_TEXT_CHARS else None
    if match is None or not any(match.groups()):
        msg = "ttl: expected a duration such as 90s, 15m, 4h or 1h30m"
        raise InputError(msg)
    days, hours, minutes, seconds = (min(int(part or 0), 10**9) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not 0 < total <= 365 * 86_400:
        msg = "ttl: expected more than zero and at most a year"
        raise InputError(msg)
    return timedelta(seconds=total)


def format_ttl(ttl: timedelta) -> str:
    """Write a duration the way `parse_ttl` reads it; parts of a second are dropped."""
    rest = int(ttl.total_seconds())
    if rest <= 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
