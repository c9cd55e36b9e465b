"""SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), in the form PostgreSQL stores.

The password is made where it is used; only its verifier travels. It lets a
server check a password and does not let anyone log in with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

from gatekeeper.kernel import base64url
from gatekeeper.kernel.secret import Secret

SALT_BYTES: Final = 16
PASSWORD_BYTES: Final = 32
DEFAULT_ITERATIONS: Final = 4096
"""What RFC 7677 asks for at least, and what every driver accepts."""
MAX_ITERATIONS: Final = 65_536
"""A target's server runs this many rounds itself when the login is made: bound its work."""
MAX_VERIFIER_CHARS: Final = 256

VERIFIER: Final = re.compile(
    r"SCRAM-SHA-256\$([1-9][0-9]{0,5}):([A-Za-z0-9+/]{22}==)\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)",
    re.ASCII,
)


def make_password(random: bytes) -> Secret:
    """Make a password (43 URL-safe ASCII characters) from `PASSWORD_BYTES` random bytes.

    Plain ASCII, so SASLprep changes nothing and no DSN needs escaping.
    """
    if len(random) != PASSWORD_BYTES:
        msg = f"a password is made from {PASSWORD_BYTES} random bytes, not {len(random)}"
        raise ValueError(msg)
    return Secret(base64url.encode(random))


def make_verifier(password: Secret, salt: bytes, iterations: int = DEFAULT_ITERATIONS) -> str:
    """Return the verifier of an ASCII password (RFC 5802 section 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.reveal().encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server_key = _hmac(salted, b"Server Key")
    return f"SCRAM-SHA-256${iterations}:{_b64(salt)}${_b64(stored_key)}:{_b64(server_key)}"


def is_verifier(text: str) -> bool:
    """Tell whether `text` has the exact shape of a verifier with a bounded work factor."""
    if len(text) > MAX_VERIFIER_CHARS:
        return False
    match = VERIFIER.fullmatch(text)
    return match is not None and int(match[1]) <= MAX_ITERATIONS


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
