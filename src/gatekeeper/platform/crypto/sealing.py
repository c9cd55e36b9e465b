"""Secrets sealed to one reader: JWE (RFC 7516), ECDH-ES on X25519 (RFC 8037), AES-256-GCM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from gatekeeper.kernel.errors import InputError, IntegrityError
from gatekeeper.platform.crypto.files import read_private, write_once

if TYPE_CHECKING:
    from pathlib import Path

    from gatekeeper.kernel.secret import Secret

_HEADER: Final = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"}
_REGISTRY: Final = jwe.JWERegistry(algorithms=[_HEADER["alg"], _HEADER["enc"]])


def seal_secret(secret: Secret, *, to: str) -> str:
    """Seal a secret to the holder of a public key (JWK as JSON).

    Raises `InputError` when the key is no X25519 public key.
    """
    try:
        key = OKPKey.import_key(json.loads(to))
        return jwe.encrypt_compact(dict(_HEADER), secret.reveal().encode(), key, registry=_REGISTRY)
    except (ValueError, JoseError, TypeError, KeyError, RecursionError) as error:
        msg = "sealTo: expected an X25519 public key as a JWK"
        raise InputError(msg) from error


class SealingKey:
    """The private half: opens what was sealed to this control plane."""

    def __init__(self, key: OKPKey) -> None:
        self._key = key

    @classmethod
    def load_or_create(cls, path: Path) -> SealingKey:
        """Read the key, or make it in a file that only its owner can read.

        Raises `InputError` when others can read the file.
        """
        if not path.exists():
            key = OKPKey.generate_key("X25519", private=True)
            write_once(path, json.dumps(key.as_dict(private=True)))
        return cls(OKPKey.import_key(json.loads(read_private(path))))

    @property
    def public_key(self) -> str:
        return json.dumps(self._key.as_dict(private=False))

    def open(self, sealed: str) -> str:
        """Return the secret. Raises `IntegrityError` when it was not sealed to this key."""
        try:
            opened = jwe.decrypt_compact(sealed, self._key, registry=_REGISTRY)
        except (ValueError, JoseError) as error:
            msg = "a sealed password cannot be opened with this control plane's key"
            raise IntegrityError(msg) from error
        if opened.plaintext is None:
            msg = "a sealed password is empty"
            raise IntegrityError(msg)
        return opened.plaintext.decode()
