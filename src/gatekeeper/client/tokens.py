"""Tokens of one server: in the system's keyring where there is one, else in a 0600 file.

The file says where they are, so that the keyring, whose import alone takes longer than
a command, is asked only when it holds them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.client.files import write_private
from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RENEW_BEFORE_SECONDS: Final = 60
_IN_KEYRING: Final = {"place": "keyring"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a login gave us. `expires_at` is in seconds since 1970, by the token itself."""

    identity: Secret
    refresh: Secret | None
    token_endpoint: str
    client_id: str
    expires_at: float

    def is_fresh(self, now: float) -> bool:
        return now < self.expires_at - RENEW_BEFORE_SECONDS


def claims_of(identity: str) -> Mapping[str, Any]:
    """Read a token's claims. They are not verified: the server does that."""
    try:
        claims: dict[str, Any] = json.loads(base64url.decode(identity.split(".")[1]))
        float(claims["exp"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        msg = "the issuer gave a token that is none"
        raise InputError(msg) from error
    return claims


def save(folder: Path, server: str, tokens: Tokens) -> bool:
    """Keep tokens where only their owner can read them; True when that is the keyring."""
    from gatekeeper.client import keyring  # noqa: PLC0415  # slow, and seldom needed

    kept = keyring.save(_account(folder, server), _text(tokens))
    path = _path(folder, server)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, json.dumps(_IN_KEYRING) if kept else _text(tokens))
    return kept


def load(folder: Path, server: str) -> Tokens | None:
    """Return the tokens for a server. Raises `InputError` when others can read the file."""
    path = _path(folder, server)
    try:
        if path.stat().st_mode & 0o077:
            msg = f"{path} can be read by others; gk logout, then gk login"
            raise InputError(msg)
        stored = json.loads(path.read_text())
        return _from_keyring(folder, server) if stored == _IN_KEYRING else _tokens(stored)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read; gk logout, then gk login"
        raise InputError(msg) from error


def forget(folder: Path, server: str) -> bool:
    """Remove the tokens for a server; False when there were none."""
    path = _path(folder, server)
    try:
        text = path.read_text()
    except FileNotFoundError:
        return False
    if text == json.dumps(_IN_KEYRING):
        from gatekeeper.client import keyring  # noqa: PLC0415  # as above

        keyring.forget(_account(folder, server))
    path.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def renewing(folder: Path, server: str) -> Iterator[None]:
    """Let one process at a time renew: a refresh token can be used once."""
    path = _path(folder, server).with_suffix(".lock")
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _from_keyring(folder: Path, server: str) -> Tokens | None:
    from gatekeeper.client import keyring  # noqa: PLC0415  # as above

    text = keyring.load(_account(folder, server))
    return None if text is None else _tokens(json.loads(text))


def _text(tokens: Tokens) -> str:
    return json.dumps(
        {
            "identity": tokens.identity.reveal(),
            "refresh": None if tokens.refresh is None else tokens.refresh.reveal(),
            "tokenEndpoint": tokens.token_endpoint,
            "clientId": tokens.client_id,
            "expiresAt": tokens.expires_at,
        }
    )


def _tokens(stored: Mapping[str, Any]) -> Tokens:
    return Tokens(
        identity=Secret(stored["identity"]),
        refresh=None if stored["refresh"] is None else Secret(stored["refresh"]),
        token_endpoint=stored["tokenEndpoint"],
        client_id=stored["clientId"],
        expires_at=float(stored["expiresAt"]),
    )


def _path(folder: Path, server: str) -> Path:
    return folder / "tokens" / f"{hashlib.sha256(server.encode()).hexdigest()[:16]}.json"


def _account(folder: Path, server: str) -> str:
    """Name the entry: two folders of configuration are two logins."""
    return f"{server} ({folder})"
