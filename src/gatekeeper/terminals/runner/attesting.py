"""What comes into the evidence is signed here, each for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gatekeeper.platform.crypto.statements import sign_statement
from gatekeeper.wire.runner import Attested, statement

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from pydantic import BaseModel

    from gatekeeper.kernel.clock import Clock

M = TypeVar("M", bound="BaseModel")


class Attestor:
    """Signs as one runner."""

    def __init__(self, *, name: str, key: Ed25519PrivateKey, clock: Clock) -> None:
        self._name = name
        self._key = key
        self._clock = clock

    def attested(self, terminal: str, instance: str, said: M) -> M:
        """Return a result, or an event, with its receipt; one that needs none as it is."""
        if not isinstance(said, Attested):
            return said
        receipt = sign_statement(
            statement(terminal, instance, said),
            key=self._key,
            signer=self._name,
            now=self._clock.now(),
        )
        return said.model_copy(update={"receipt": receipt})
