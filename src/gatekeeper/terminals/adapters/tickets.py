"""The `Tickets` port on RSA keys in a folder: `<seconds>.jwk`, named by when it begins to sign.

A key is published before it signs, so that gateways know it by then, and stays published
until the last ticket it signed is over. Every control plane of a store shares the folder.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from joserfc import jwt

from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.terminals.protocol import ticket

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.terminals.protocol.ticket import TicketClaims

PUBLISHED_BEFORE: Final = timedelta(minutes=5)
"""How long a new key is published before it signs: longer than keys are cached anywhere."""
PUBLISHED_AFTER: Final = ticket.MAX_LIFETIME + timedelta(minutes=1)
"""How long a key stays published after the next one began to sign."""
ROTATED_EVERY: Final = timedelta(days=30)
LOOK_AGAIN: Final = timedelta(hours=1)
_NAME: Final = re.compile(r"\d{1,12}\.jwk", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dated:
    """A key, and the second from when it signs."""

    since: int
    path: Path


class TicketKeys:
    """The keys of a folder. Raises `InputError` for one that others can read."""

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._loaded: dict[Path, TokenKey] = {}

    def begin(self) -> None:
        """Make the first key, which signs at once, where there is none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._dated():
            self._make(self._now())

    def rotate(self) -> int:
        """Make the next key, unless one waits already; return the second from when it signs.

        Keys that nothing needs any more go.
        """
        self.begin()
        now, newest = self._now(), self._dated()[-1]
        for old in self._over(now):
            old.path.unlink(missing_ok=True)
        if newest.since > now:
            return newest.since
        return self._make(now + int(PUBLISHED_BEFORE.total_seconds()))

    def rotate_if_old(self) -> None:
        age = self._now() - self._dated()[-1].since
        if age >= ROTATED_EVERY.total_seconds():
            self.rotate()

    async def run(self) -> None:
        """Rotate by age, for ever."""
        while True:
            await asyncio.to_thread(self.rotate_if_old)
            await asyncio.sleep(LOOK_AGAIN.total_seconds())

    async def sign(self, claims: TicketClaims) -> str:
        now = self._now()
        signing = [key for key in self._dated() if key.since <= now] or self._dated()[:1]
        key = self._load(signing[-1].path)
        header = {"alg": ticket.ALGORITHM, "typ": ticket.TYPE, "kid": key.key_id}
        return jwt.encode(header, _jwt_claims(claims), key.private)

    def jwks(self) -> list[dict[str, Any]]:
        """Return the public keys: those that sign, did not long ago, or will soon."""
        over = set(self._over(self._now()))
        keys = [key for key in self._dated() if key not in over]
        return [jwk for key in keys for jwk in self._load(key.path).jwks()["keys"]]

    def _over(self, now: int) -> Sequence[_Dated]:
        """Return the keys whose last ticket is over."""
        dated, after = self._dated(), PUBLISHED_AFTER.total_seconds()
        return [old for old, new in pairwise(dated) if new.since + after < now]

    def _dated(self) -> Sequence[_Dated]:
        """Return the keys that are there now, oldest first: another process may have made one."""
        names = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(
            (_Dated(since=int(path.stem), path=path) for path in names), key=lambda key: key.since
        )

    def _load(self, path: Path) -> TokenKey:
        if path not in self._loaded:
            self._loaded[path] = TokenKey.load_or_create(path)
        return self._loaded[path]

    def _make(self, since: int) -> int:
        TokenKey.load_or_create(self._folder / f"{since}.jwk")
        return since

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _jwt_claims(claims: TicketClaims) -> dict[str, Any]:
    said = {
        "iss": claims.issuer,
        "aud": ticket.AUDIENCE,
        "sub": claims.subject,
        "name": claims.name,
        "sid": claims.terminal,
        "ins": claims.instance,
        "mode": claims.mode.value,
        "epoch": claims.epoch,
        "jti": claims.ticket_id,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
    }
    more = {"origin": claims.origin, "until": claims.until}
    return said | {name: value for name, value in more.items() if value is not None}
