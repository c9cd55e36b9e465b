"""Signed messages between control plane and agents, the same over every transport.

A message is a compact JWS (RFC 7515) with EdDSA, whose payload names its sender,
its one reader, its purpose, its times and the message it answers. It is opened
once: what was seen before, late, early, foreign or too large is refused.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.platform.crypto.signing import thumbprint, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIFETIME: Final = timedelta(seconds=60)
LEEWAY: Final = timedelta(seconds=30)
"""How far the clocks of the two sides may be apart."""
MAX_ENVELOPE_CHARS: Final = 131_072
MAX_REMEMBERED: Final = 1_000_000
"""Message ids kept against replay; when there are more, new messages are refused."""

Purpose = Literal["job", "result"]
_ALGORITHM: Final = "EdDSA"
_TYPE: Final = "gatekeeper-envelope"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A message that was sent to us, just now, by whom it says."""

    payload: bytes
    sender: str
    message_id: str


class ReplayGuard:
    """Remembers message ids for as long as they could be replayed."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._until: list[tuple[datetime, str]] = []

    def first_time(self, message_id: str, until: datetime, now: datetime) -> bool:
        """Remember the id; False when it was seen, or when there is no room to remember."""
        while self._until and self._until[0][0] < now:
            self._seen.discard(heapq.heappop(self._until)[1])
        if message_id in self._seen or len(self._seen) >= self._most:
            return False
        self._seen.add(message_id)
        heapq.heappush(self._until, (until, message_id))
        return True


def seal(
    payload: bytes,
    *,
    key: Ed25519PrivateKey,
    sender: str,
    audience: str,
    purpose: Purpose,
    message_id: str,
    now: datetime,
    in_reply_to: str | None = None,
) -> str:
    """Sign a message to one reader."""
    header = {"alg": _ALGORITHM, "typ": _TYPE, "kid": thumbprint(key.public_key())}
    claims = {
        "iss": sender,
        "aud": audience,
        "purpose": purpose,
        "jti": message_id,
        "iat": int(now.timestamp()),
        "exp": int((now + LIFETIME).timestamp()),
        "irt": in_reply_to,
        "payload": payload.decode(),
    }
    signed = f"{_encode(header)}.{_encode(claims)}"
    return f"{signed}.{_b64(key.sign(signed.encode()))}"


def open_envelope(
    envelope: str,
    *,
    trusted: Mapping[str, Sequence[Ed25519PublicKey]],
    audience: str,
    purpose: Purpose,
    now: datetime,
    seen: ReplayGuard,
    in_reply_to: str | None = None,
) -> Opened | Refusal:
    """Return the message, or why it is refused. A refusal never repeats what was sent."""
    claims = read_signed(envelope, trusted)
    if claims is None:
        return _refused("it is not signed by a key we trust")
    try:
        why = _mismatch(claims, audience, purpose, in_reply_to) or _untimely(claims, now)
        if why is not None:
            return _refused(why)
        until = datetime.fromtimestamp(claims["exp"], now.tzinfo) + LEEWAY
        message_id = str(claims["jti"])
        opened = Opened(
            payload=claims["payload"].encode(), sender=claims["iss"], message_id=message_id
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        return _refused("its claims have the wrong shape")
    if not seen.first_time(f"{opened.sender}/{message_id}", until, now):
        return _refused("it was seen before")
    return opened


def read_signed(
    envelope: str, trusted: Mapping[str, Sequence[Ed25519PublicKey]]
) -> dict[str, Any] | None:
    """Return the claims if a trusted key of their sender signed them, whenever that was.

    This is also how a receipt in the evidence is checked years later.
    """
    if len(envelope) > MAX_ENVELOPE_CHARS or not envelope.isascii():
        return None
    try:
        signed, _, signature = envelope.rpartition(".")
        header, claims = (json.loads(_unb64(part)) for part in signed.split("."))
        if (header["alg"], header["typ"]) != (_ALGORITHM, _TYPE):
            return None
        for key in trusted.get(claims["iss"], ()):
            if header["kid"] == thumbprint(key) and verify(key, _unb64(signature), signed.encode()):
                return dict(claims)
    except (ValueError, KeyError, TypeError):
        return None
    return None


def digest(envelope: str) -> str:
    """Return the SHA-256 of an envelope, in hexadecimal."""
    return hashlib.sha256(envelope.encode()).hexdigest()


def _mismatch(
    claims: Mapping[str, Any], audience: str, purpose: Purpose, in_reply_to: str | None
) -> str | None:
    if claims["aud"] != audience:
        return "it is meant for another reader"
    if claims["purpose"] != purpose:
        return "it serves another purpose"
    if claims["irt"] != in_reply_to:
        return "it answers another message"
    return None


def _untimely(claims: Mapping[str, Any], now: datetime) -> str | None:
    seconds = now.timestamp()
    leeway = LEEWAY.total_seconds()
    if claims["exp"] - claims["iat"] > LIFETIME.total_seconds():
        return "it claims to live too long"
    if seconds > claims["exp"] + leeway:
        return "it is too old"
    if seconds < claims["iat"] - leeway:
        return "it comes from the future"
    return None


def _refused(why: str) -> Refusal:
    return Refusal(code=ErrorCode.AGENT_REJECTED, detail=f"the message is refused: {why}")


def _encode(value: object) -> str:
    return _b64(json.dumps(value, separators=(",", ":")).encode())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
