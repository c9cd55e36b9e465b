"""What a gateway tells a runner of a client that it let in: one header, signed with a shared key.

    Gatekeeper-Attach: base64url(JSON) "." base64url(HMAC-SHA256(key, base64url(JSON)))

The runner believes nothing else of a connection: not who it is, nor what it may do.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Final

from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import ErrorCode, Refusal
from gatekeeper.terminals.model import Mode

HEADER: Final = "Gatekeeper-Attach"
MAX_ATTACHMENT_CHARS: Final = 2_048
FRESH_SECONDS: Final = 30
"""How long after it was made it is taken; each nonce once in that time."""
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    terminal: str
    instance: str
    mode: Mode
    subject: str
    name: str
    nonce: str
    at: int
    """When it was made: seconds of the Unix clock."""


_NAMES: Final = tuple(field.name for field in fields(Attachment))


def seal(attachment: Attachment, key: bytes) -> str:
    said = {name: getattr(attachment, name) for name in _NAMES}
    text = base64url.encode(json.dumps(said, separators=(",", ":")).encode())
    return f"{text}.{_mac(text, key)}"


def read(header: str, key: bytes, *, now: float) -> Attachment | Refusal:
    """Return what a gateway said. Not checked: whether the nonce was seen before."""
    text, _, mac = header.partition(".")
    if len(header) > MAX_ATTACHMENT_CHARS or not header.isascii():
        return _refused("it is too large")
    if not hmac.compare_digest(mac, _mac(text, key)):
        return _refused("its signature is wrong")
    said: dict[str, Any] = json.loads(base64url.decode(text))
    found = Attachment(**{**said, "mode": Mode(said["mode"])})
    if abs(now - found.at) > FRESH_SECONDS:
        return _refused("it is too old, or from the future")
    return found


def _mac(text: str, key: bytes) -> str:
    return base64url.encode(hmac.new(key, text.encode(), sha256).digest())


def _refused(why: str) -> Refusal:
    return Refusal(code=ErrorCode.AUTHENTICATION_ERROR, detail=f"the attachment is refused: {why}")
