"""The key that runners and gateways share: what a gateway says of a client is signed with it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.crypto.files import read_private, write_once
from gatekeeper.terminals.protocol.attachment import KEY_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def attach_key(path: Path) -> bytes:
    """Read the key, or make it in a file that only its owner can read: base64url, one line.

    Whoever starts first makes it. Raises `InputError` for what is no such key.
    """
    if not path.exists():
        write_once(path, base64url.encode(secrets.token_bytes(KEY_BYTES)))
    try:
        key = base64url.decode(read_private(path).strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        msg = f"{path}: expected {KEY_BYTES} bytes as base64url"
        raise InputError(msg)
    return key
