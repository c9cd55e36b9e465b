"""BASE64URL without padding (RFC 7515, appendix C): how tokens, keys and challenges are written."""

from __future__ import annotations

import base64


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Return what was encoded. Raises `ValueError` for text that nobody could have encoded."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
