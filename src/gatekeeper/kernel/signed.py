"""Signed texts that stand in events, and the keys that the chain names for them. Pure.

Such a text is a compact JWS (RFC 7515) with Ed25519, kept as it was signed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel import base64url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

RECEIPT_ALGORITHM: Final = "Ed25519"
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)


def key_id(public: str) -> str:
    """Name an Ed25519 public key (the `x` of its JWK): RFC 7638 over what RFC 8037 requires."""
    named = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": public}, separators=(",", ":"))
    digest = hashlib.sha256(named.encode()).digest()
    return base64url.encode(digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody signed, and when by their own clock."""

    by: str
    at: datetime
    payload: Mapping[str, Any]


class Keyring:
    """The keys of one kind of signer, and what they sign. Each counts from where it is learned."""

    def __init__(
        self,
        signer: str,
        purpose: str,
        verify: Callable[[str, bytes, bytes], bool],
        *,
        pinned: Collection[str] | None = None,
    ) -> None:
        """`signer` is their kind, as it is told, and `purpose` the `typ` of what they sign.

        `verify(public, signature, message)` checks an Ed25519 signature. `pinned` are the ids
        of the only keys to be believed.
        """
        self.signer = signer
        self._purpose = purpose
        self._verify = verify
        self._pinned = pinned
        self._keys: dict[tuple[str, str], str] = {}

    @property
    def owners(self) -> Mapping[str, str]:
        """Whose each key is, by key id."""
        return {kid: owner for owner, kid in self._keys}

    def learn(self, keys: Mapping[str, str]) -> None:
        """Learn keys: the `x` of their JWKs, by owner."""
        for owner, public in keys.items():
            self._keys[owner, key_id(public)] = public

    def open(self, text: str) -> Said | str:
        """Return what was signed, or why it is refused. Raises what reading a wrong shape does."""
        parts = _COMPACT.fullmatch(text)
        if parts is None:
            return "it is not a signed result"
        head, body, signature = (base64url.decode(part) for part in parts.groups())
        header, claims = json.loads(head), json.loads(body)
        if header.keys() != {"alg", "typ", "kid"} or header["alg"] != RECEIPT_ALGORITHM:
            return "its header is not ours"
        if header["typ"] != self._purpose:
            return "it serves another purpose"
        public = self._keys.get((claims["iss"], header["kid"]))
        if public is None:
            return f"the chain names no such key of this {self.signer} before it"
        if self._pinned is not None and header["kid"] not in self._pinned:
            return f"it is not signed by {_a(self.signer)}'s key you gave"
        if not self._verify(public, signature, text.rpartition(".")[0].encode()):
            return "its signature is wrong"
        at = datetime.fromtimestamp(claims["iat"], UTC)
        return Said(by=claims["iss"], at=at, payload=json.loads(claims["payload"]))


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
