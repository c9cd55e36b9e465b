"""RSA keys that sign tokens (RS256), kept in 0600 files and published as JWKS (RFC 7517)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from joserfc.jwk import KeySet, RSAKey

from gatekeeper.platform.crypto.files import read_private, write_once

if TYPE_CHECKING:
    from pathlib import Path

_BITS = 2048


class TokenKey:
    """A private key that signs, and its public half under its RFC 7638 thumbprint."""

    def __init__(self, key: RSAKey) -> None:
        key.ensure_kid()
        self.private = key

    @classmethod
    def load_or_create(cls, path: Path) -> TokenKey:
        """Read the key, or make it in a file that only its owner can read.

        Raises `InputError` when others can read the file.
        """
        if not path.exists():
            key = RSAKey.generate_key(_BITS, private=True)
            write_once(path, json.dumps(key.as_dict(private=True)))
        return cls(RSAKey.import_key(json.loads(read_private(path))))

    @property
    def key_id(self) -> str:
        return str(self.private.kid)

    def public(self) -> KeySet:
        return KeySet.import_key_set(self.jwks())

    def jwks(self) -> Any:  # noqa: ANN401  # JSON
        """Return the public key set as JSON."""
        public = self.private.as_dict(private=False)
        return {"keys": [{**public, "use": "sig", "alg": "RS256", "kid": self.key_id}]}
