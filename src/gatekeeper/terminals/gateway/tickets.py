"""Whether a ticket is believed: every check of RFC 8725 that a verifier can make.

The algorithm and the type are pinned and the header may hold nothing else, so a ticket can
neither bring a key (`jwk`, `jku`, `x5c`) nor ask for another way to be read (`crit`, `none`,
HS256 with our public key as its secret).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from gatekeeper.kernel import base64url
from gatekeeper.kernel.ids import TERMINAL_ID
from gatekeeper.terminals.model import Mode
from gatekeeper.terminals.protocol import ticket
from gatekeeper.terminals.protocol.handshake import Refused, ticket_refused
from gatekeeper.terminals.protocol.ticket import TicketClaims

if TYPE_CHECKING:
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.platform.oidc.keysource import KeySource

MIN_KEY_BITS: Final = 2_048
MAX_KEY_ID_CHARS: Final = 128
MAX_HEADERS: Final = 64
"""That are remembered, of tickets as they come."""
MAX_SUBJECT_CHARS: Final = 1_024
MAX_NAME_CHARS: Final = 128
"""A longer name is cut: it is for people to read."""
_HEADER: Final = frozenset({"alg", "typ", "kid"})
_INSTANCE: Final = re.compile(r"[a-z2-7]{20}", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_PADDING: Final = PKCS1v15()
_HASH: Final = SHA256()


class TicketVerifier:
    """Verifies tickets of one issuer."""

    def __init__(self, keys: KeySource, *, issuer: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    async def verify(self, unverified: str) -> TicketClaims | Refused:
        """Return what a ticket says, or why it is not believed.

        Not checked: whether it was used, and what it is used for. Raises `UnavailableError`
        when the issuer's keys were never to be had.
        """
        if len(unverified) > ticket.MAX_TICKET_CHARS or not ticket.JWT.fullmatch(unverified):
            return ticket_refused("the ticket is not believed: it is no JSON Web Token")
        signed, _, signature = unverified.rpartition(".")
        header, _, payload = signed.partition(".")
        key_id = _key_id(header)
        key = None if key_id is None else await self._keys.find(key_id)
        public = None if key is None else key.raw_value
        if not isinstance(public, RSAPublicKey) or public.key_size < MIN_KEY_BITS:
            return ticket_refused("the ticket is not believed: its key or algorithm is not ours")
        try:
            public.verify(base64url.decode(signature), signed.encode(), _PADDING, _HASH)
        except (InvalidSignature, ValueError):
            return ticket_refused("the ticket is not believed: its signature does not fit")
        claims = _claims(_json(payload))
        if claims is None:
            return ticket_refused("the ticket is not believed: its claims are not a ticket's")
        fault = self._fault(claims)
        return claims if fault is None else ticket_refused(f"the ticket is not believed: {fault}")

    def _fault(self, claims: TicketClaims) -> str | None:
        now, leeway = self._clock.now().timestamp(), ticket.LEEWAY.total_seconds()
        if claims.issuer != self._issuer:
            return "it belongs to another issuer"
        lifetime = claims.expires_at - claims.issued_at
        if not 0 < lifetime <= ticket.MAX_LIFETIME.total_seconds():
            return "it lives too long"
        if claims.issued_at > now + leeway:
            return "it comes from the future"
        over = claims.until is not None and claims.until <= now
        if over or claims.expires_at <= now - leeway:
            return "it has expired"
        return None


def _json(part: str) -> dict[str, Any]:
    """Return an object; empty for what is none."""
    try:
        value = json.loads(base64url.decode(part))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@lru_cache(maxsize=MAX_HEADERS)
def _key_id(part: str) -> str | None:
    """Return the key's id, of a header that says exactly what ours do.

    Remembered, as all tickets of a key have the same one.
    """
    header = _json(part)
    key_id = header.get("kid")
    if (
        header.keys() == _HEADER
        and header["alg"] == ticket.ALGORITHM
        and header["typ"] == ticket.TYPE
        and isinstance(key_id, str)
        and 0 < len(key_id) <= MAX_KEY_ID_CHARS
    ):
        return key_id
    return None


def _claims(said: dict[str, Any]) -> TicketClaims | None:
    """Return signed claims; None when a name, a type or the audience is not a ticket's."""
    texts = {name: said.get(name) for name in ("iss", "sub", "name", "sid", "ins", "mode", "epoch",
                                               "jti")}  # fmt: skip
    times, origin = (said.get("iat"), said.get("exp")), said.get("origin")
    until = said.get("until")
    if (
        said.get("aud") != ticket.AUDIENCE
        or "nbf" in said
        or not all(isinstance(text, str) for text in texts.values())
        or not all(type(time) is int for time in times)
        or not (origin is None or isinstance(origin, str))
        or not (until is None or type(until) is int)
        or not TERMINAL_ID.fullmatch(said["sid"])
        or not _INSTANCE.fullmatch(said["ins"])
        or not _WORD.fullmatch(said["jti"])
        or not _WORD.fullmatch(said["epoch"])
        or said["mode"] not in _MODES
        or not 0 < len(said["sub"]) <= MAX_SUBJECT_CHARS
    ):
        return None
    return TicketClaims(
        issuer=said["iss"],
        subject=said["sub"],
        name=said["name"][:MAX_NAME_CHARS],
        terminal=said["sid"],
        instance=said["ins"],
        mode=Mode(said["mode"]),
        origin=origin,
        epoch=said["epoch"],
        ticket_id=said["jti"],
        issued_at=said["iat"],
        expires_at=said["exp"],
        until=until,
    )


_MODES: Final = frozenset(mode.value for mode in Mode)
