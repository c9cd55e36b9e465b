"""Tokens of one server, in a 0600 file: an identity token, and what renews it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

RENEW_BEFORE_SECONDS: Final = 60


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


def expiry_of(identity: str) -> float:
    """Read when a token ends. It is not verified: the server does that."""
    try:
        part = identity.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        msg = "the issuer gave a token that is none"
        raise InputError(msg) from error


def save(folder: Path, server: str, tokens: Tokens) -> None:
    """Keep tokens where only their owner can read them."""
    path = _path(folder, server)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(
            {
                "identity": tokens.identity.reveal(),
                "refresh": None if tokens.refresh is None else tokens.refresh.reveal(),
                "tokenEndpoint": tokens.token_endpoint,
                "clientId": tokens.client_id,
                "expiresAt": tokens.expires_at,
            },
            file,
        )
    draft.replace(path)


def load(folder: Path, server: str) -> Tokens | None:
    """Return the tokens for a server. Raises `InputError` when others can read the file."""
    path = _path(folder, server)
    try:
        if path.stat().st_mode & 0o077:
            msg = f"{path} can be read by others; gk logout, then gk login"
            raise InputError(msg)
        stored = json.loads(path.read_text())
        return Tokens(
            identity=Secret(stored["identity"]),
            refresh=None if stored["refresh"] is None else Secret(stored["refresh"]),
            token_endpoint=stored["tokenEndpoint"],
            client_id=stored["clientId"],
            expires_at=float(stored["expiresAt"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read; gk logout, then gk login"
        raise InputError(msg) from error


def forget(folder: Path, server: str) -> bool:
    """Remove the tokens for a server; False when there were none."""
    try:
        _path(folder, server).unlink()
    except FileNotFoundError:
        return False
    return True


def _path(folder: Path, server: str) -> Path:
    return folder / "tokens" / f"{hashlib.sha256(server.encode()).hexdigest()[:16]}.json"
