"""Ed25519 keys (RFC 8032) as JWKs (RFC 8037), named by their thumbprint (RFC 7638)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gatekeeper.kernel import base64url
from gatekeeper.kernel.errors import InputError
from gatekeeper.kernel.signed import key_id
from gatekeeper.platform.crypto.files import read_private, write_once

if TYPE_CHECKING:
    from pathlib import Path


class SigningKey:
    """A private key and the public half that names it."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.private = private
        self.key_id = thumbprint(private.public_key())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key. Raises `InputError` when there is none, or others can read it."""
        if not path.exists():
            msg = f"{path}: there is no such key; gk key {path} makes one"
            raise InputError(msg)
        text = read_private(path)
        try:
            jwk = json.loads(text)
            if jwk["crv"] != "Ed25519":
                raise ValueError  # noqa: TRY301  # one answer for every way to be wrong
            return cls(Ed25519PrivateKey.from_private_bytes(base64url.decode(jwk["d"])))
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{path}: expected an Ed25519 private key as a JWK"
            raise InputError(msg) from error

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """Read the key, or make it in a file that only its owner can read."""
        if not path.exists():
            private = Ed25519PrivateKey.generate()
            jwk = {
                **_public(private.public_key()),
                "d": base64url.encode(private.private_bytes_raw()),
            }
            write_once(path, json.dumps(jwk))
        return cls.load(path)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)

    def public_jwk(self) -> str:
        return public_jwk(self.private.public_key())


def public_jwk(key: Ed25519PublicKey) -> str:
    return json.dumps({**_public(key), "kid": thumbprint(key)})


def public_key(jwk: str) -> Ed25519PublicKey:
    """Read a public key. Raises `InputError` for anything else."""
    try:
        fields = json.loads(jwk)
        if (fields["kty"], fields["crv"]) != ("OKP", "Ed25519"):
            raise ValueError  # noqa: TRY301  # one answer for every way to be wrong
        return Ed25519PublicKey.from_public_bytes(base64url.decode(fields["x"]))
    except (ValueError, KeyError, TypeError) as error:
        msg = "expected an Ed25519 public key as a JWK"
        raise InputError(msg) from error


def verify(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def thumbprint(key: Ed25519PublicKey) -> str:
    """Return the key's name, which evidence knows it by too."""
    return key_id(_public(key)["x"])


def _public(key: Ed25519PublicKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(key.public_bytes_raw())}
