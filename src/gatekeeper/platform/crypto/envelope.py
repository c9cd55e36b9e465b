"""Signed messages between control plane and agents, the same over every transport.

A message is a compact JWS (RFC 7515) with Ed25519 (RFC 8037, named as RFC 9864 asks).
Its header names the purpose and the key; its payload the sender, the one reader, the
times, the message it answers, and the job or result itself. It is opened once: what was
seen before, late, early, foreign, of another purpose or too large is refused. An agent that
may only dial out asks for its jobs with a message too, a poll, which says nothing else. A
runner of terminals tells of them in reports, which the control plane answers with a result.

A sealed result is also the agent's receipt: `kernel.receipts` checks one years later.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.kernel.receipts import RECEIPT_TYPE
from gatekeeper.kernel.signed import RECEIPT_ALGORITHM
from gatekeeper.platform.crypto.signing import thumbprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

Purpose = Literal["job", "result", "poll", "report"]

LIFETIME: Final = timedelta(seconds=60)
LEEWAY: Final = timedelta(seconds=30)
"""How far the clocks of the two sides may be apart."""
REPLAYABLE: Final = LIFETIME + 2 * LEEWAY
"""For how long a message may be taken for fresh after it was first seen: one that came early
by the leeway is good until its end, and the leeway after that."""
MAX_ENVELOPE_CHARS: Final[Mapping[Purpose, int]] = MappingProxyType(
    {"job": 131_072, "result": 1_048_576, "poll": 2_048, "report": 1_048_576}
)
"""A message larger than this is refused unread. Results list every login of a target."""
MAX_REMEMBERED: Final = 1_000_000
"""Message ids kept against replay; when there are more, new messages are refused."""

_ALGORITHM: Final = RECEIPT_ALGORITHM
_TYPES: Final[Mapping[Purpose, str]] = MappingProxyType(
    {
        "job": "gatekeeper-job+jws",
        "result": RECEIPT_TYPE,
        "poll": "gatekeeper-poll+jws",
        "report": "gatekeeper-report+jws",
    }
)
"""Explicit typing (RFC 8725 section 3.11): a job is never taken for a result."""
_ANSWERS_ANOTHER: Final = "it answers another message"


class _SizedRegistry(jws.JWSRegistry):
    """The one algorithm, and our own limits, which are checked before (in `_read`)."""

    max_payload_length = max(MAX_ENVELOPE_CHARS.values())


_REGISTRY: Final = _SizedRegistry(algorithms=[_ALGORITHM])


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A message that its sender signed."""

    payload: bytes
    sender: str
    message_id: str
    in_reply_to: str | None


class ReplayGuard:
    """Remembers message ids for as long as they could be replayed, in this process."""

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


class _Claims(BaseModel):
    """The payload of the JWS; the names are those of RFC 7519 where it has one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    iss: str = Field(min_length=1, max_length=128)
    aud: str = Field(min_length=1, max_length=128)
    jti: str = Field(min_length=1, max_length=128)
    iat: int = Field(ge=0, le=32_503_680_000)
    exp: int = Field(ge=0, le=32_503_680_000)
    irt: str | None = Field(max_length=128)
    """The id of the message that this one answers."""
    payload: str


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
    """Sign a message (UTF-8) to one reader; a result, and nothing else, answers a message."""
    if (purpose == "result") != (in_reply_to is not None):
        msg = f"a result answers a message, and a {purpose} answers none"
        raise ValueError(msg)
    issued = int(now.timestamp())
    claims = _Claims(
        iss=sender,
        aud=audience,
        jti=message_id,
        iat=issued,
        exp=issued + int(LIFETIME.total_seconds()),
        irt=in_reply_to,
        payload=payload.decode(),
    )
    header = {"alg": _ALGORITHM, "typ": _TYPES[purpose], "kid": thumbprint(key.public_key())}
    return jws.serialize_compact(
        header, claims.model_dump_json(), OKPKey.import_key(key), registry=_REGISTRY
    )


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
    opened = read_envelope(envelope, trusted=trusted, audience=audience, purpose=purpose, now=now)
    if isinstance(opened, Refusal):
        return opened
    if opened.in_reply_to != in_reply_to:
        return _refused(_ANSWERS_ANOTHER)
    # Last, so that only what is otherwise good takes room; and for as long as it stays good.
    if not seen.first_time(f"{opened.sender}/{opened.message_id}", now + REPLAYABLE, now):
        return _refused("it was seen before, or too many were")
    return opened


def read_envelope(
    envelope: str,
    *,
    trusted: Mapping[str, Sequence[Ed25519PublicKey]],
    audience: str,
    purpose: Purpose,
    now: datetime,
) -> Opened | Refusal:
    """Return a fresh message to this reader.

    Not checked is whether it was seen before, and which message it answers: that is the
    caller's, who remembers outside of this process.
    """
    claims = _read(envelope, trusted, purpose)
    if isinstance(claims, Refusal):
        return claims
    if claims.aud != audience:
        return _refused("it is meant for another reader")
    if (purpose == "result") != (claims.irt is not None):
        return _refused(_ANSWERS_ANOTHER)
    why = _untimely(claims, now)
    return _opened(claims) if why is None else _refused(why)


def own_message_id(envelope: str) -> str:
    """Return the id in a message that we sealed ourselves; nothing is checked."""
    unverified = jws.extract_compact(envelope.encode(), registry=_REGISTRY)
    return _Claims.model_validate_json(unverified.payload).jti


def _read(
    envelope: str, trusted: Mapping[str, Sequence[Ed25519PublicKey]], purpose: Purpose
) -> _Claims | Refusal:
    """Return the claims if a trusted key of their sender signed them for this purpose."""
    if len(envelope) > MAX_ENVELOPE_CHARS[purpose] or not envelope.isascii():
        return _refused("it is too large, or not a message")
    try:
        unverified = jws.extract_compact(envelope.encode(), registry=_REGISTRY)
        key = _key(unverified.headers(), trusted, purpose)
        if isinstance(key, Refusal):
            return key
        if not jws.validate_compact(unverified, OKPKey.import_key(key), registry=_REGISTRY):
            return _refused("its signature is wrong")
        claims = _Claims.model_validate_json(unverified.payload)
    except (JoseError, ValidationError, ValueError, RecursionError):
        return _refused("it has the wrong shape")
    if key not in trusted.get(claims.iss, ()):
        return _refused("it is signed by somebody else's key")
    return claims


def _key(
    header: object, trusted: Mapping[str, Sequence[Ed25519PublicKey]], purpose: Purpose
) -> Ed25519PublicKey | Refusal:
    """Find the trusted key that an exact header names. Whose it is, is checked afterwards."""
    if not isinstance(header, dict) or header.keys() != {"alg", "typ", "kid"}:
        return _refused("its header is not ours")
    if header["typ"] != _TYPES[purpose]:
        return _refused("it serves another purpose")
    for keys in trusted.values():
        for key in keys:
            if thumbprint(key) == header["kid"]:
                return key
    return _refused("it is not signed by a key we trust")


def _untimely(claims: _Claims, now: datetime) -> str | None:
    seconds, leeway = now.timestamp(), LEEWAY.total_seconds()
    if claims.exp - claims.iat > LIFETIME.total_seconds():
        return "it claims to live too long"
    if seconds > claims.exp + leeway:
        return "it is too old"
    if seconds < claims.iat - leeway:
        return "it comes from the future"
    return None


def _opened(claims: _Claims) -> Opened:
    return Opened(
        payload=claims.payload.encode(),
        sender=claims.iss,
        message_id=claims.jti,
        in_reply_to=claims.irt,
    )


def _refused(why: str) -> Refusal:
    return Refusal(code=ErrorCode.AGENT_REJECTED, detail=f"the message is refused: {why}")
