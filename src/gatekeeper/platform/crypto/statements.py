"""Statements that runners sign for the evidence, and their check when they come in.

A control plane keeps none that could not be verified later: it would break the chain for
whoever verifies it. What is checked years later is `kernel.terminal.receipts`.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature

from gatekeeper.kernel import base64url
from gatekeeper.kernel.signed import RECEIPT_ALGORITHM, Keyring
from gatekeeper.kernel.terminal.receipts import RUNNER_RECEIPT_TYPE
from gatekeeper.platform.crypto.signing import thumbprint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

FRESH: Final = timedelta(hours=1)
"""It comes in a message that is younger; and may then wait for a launch to be answered."""


def sign_statement(
    statement: Mapping[str, Any], *, key: Ed25519PrivateKey, signer: str, now: datetime
) -> str:
    """Sign what a runner says of one terminal: a compact JWS."""
    header = {
        "alg": RECEIPT_ALGORITHM,
        "typ": RUNNER_RECEIPT_TYPE,
        "kid": thumbprint(key.public_key()),
    }
    claims = {"iss": signer, "iat": int(now.timestamp()), "payload": _text(statement)}
    signed = ".".join(base64url.encode(_text(part).encode()) for part in (header, claims))
    return f"{signed}.{base64url.encode(key.sign(signed.encode()))}"


class StatementCheck:
    """Knows the keys of runners."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._public = {base64url.encode(key.public_bytes_raw()): key for key in keys.values()}
        self._keyring = Keyring("runner", RUNNER_RECEIPT_TYPE, self._verify)
        self._keyring.learn(
            {name: base64url.encode(key.public_bytes_raw()) for name, key in keys.items()}
        )

    def is_good(
        self, receipt: str, statement: Mapping[str, Any], *, runner: str, now: datetime
    ) -> bool:
        """Tell whether the runner signed this very statement, just now."""
        try:
            said = self._keyring.open(receipt)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            return False
        return (
            not isinstance(said, str)
            and said.by == runner
            and abs(now - said.at) <= FRESH
            and _text(said.payload) == _text(statement)  # as text: 1 is not true
        )

    def _verify(self, public: str, signature: bytes, message: bytes) -> bool:
        try:
            self._public[public].verify(signature, message)
        except InvalidSignature:
            return False
        return True


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
