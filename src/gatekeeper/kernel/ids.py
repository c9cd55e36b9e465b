"""Identifiers: their shapes, and how one is derived from another.

A session id is `ses_` and 20 characters of RFC 4648 base32 (lower case, 100
random bits). The login made for it is `gk_` and the same 20 characters, so a
retry meets its own earlier work instead of making a second login.
"""

from __future__ import annotations

import base64
import re
from typing import Final, NewType

SessionId = NewType("SessionId", str)
RoleName = NewType("RoleName", str)
TerminalId = NewType("TerminalId", str)
InstanceId = NewType("InstanceId", str)
JobId = NewType("JobId", str)
CorrelationId = NewType("CorrelationId", str)

RANDOM_BYTES: Final = 13
"""How many random bytes an id is made from (104 bits, of which 100 are used)."""

SESSION_ID: Final = re.compile(r"ses_[a-z2-7]{20}", re.ASCII)
ROLE_NAME: Final = re.compile(r"gk_[a-z2-7]{20}", re.ASCII)
TERMINAL_ID: Final = re.compile(r"trm_[a-z2-7]{20}", re.ASCII)
CORRELATION_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def session_id(random: bytes) -> SessionId:
    """Make a session id from `RANDOM_BYTES` random bytes."""
    return SessionId("ses_" + _base32(random))


def terminal_id(random: bytes) -> TerminalId:
    """Make a terminal's id from `RANDOM_BYTES` random bytes."""
    return TerminalId("trm_" + _base32(random))


def instance_id(random: bytes) -> InstanceId:
    """Name one launch of a terminal, or one life of a runner, by `RANDOM_BYTES` random bytes."""
    return InstanceId(_base32(random))


def correlation_id(random: bytes) -> CorrelationId:
    """Make a correlation id from `RANDOM_BYTES` random bytes."""
    return CorrelationId("cor_" + _base32(random))


def is_session_id(text: str) -> bool:
    return SESSION_ID.fullmatch(text) is not None


def is_correlation_id(text: str) -> bool:
    return CORRELATION_ID.fullmatch(text) is not None


def role_name(session: SessionId) -> RoleName:
    """Return the name of the one login that belongs to this session."""
    return RoleName("gk_" + session.removeprefix("ses_"))


def session_of(role: RoleName) -> SessionId:
    """Return the session that a login of ours belongs to."""
    return SessionId("ses_" + role.removeprefix("gk_"))


def job_id(kind: str, session: SessionId | TerminalId) -> JobId:
    """Return the id, and so the idempotency key, of a session's job of one kind."""
    return JobId(f"{kind}:{session}")


def _base32(random: bytes) -> str:
    if len(random) != RANDOM_BYTES:
        msg = f"an id is made from {RANDOM_BYTES} random bytes, not {len(random)}"
        raise ValueError(msg)
    return base64.b32encode(random).decode().lower()[:20]
