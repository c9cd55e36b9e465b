"""A party to signed messages: the one place that says what an envelope is bound to.

A question (a job, a poll, a report) is bound to its sender, its one reader, its purpose, its
times and an id of its own. An answer is bound to the same, and to the question: it is believed
from whoever was asked, and from nobody else that we trust. Each is opened once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from gatekeeper.platform.crypto.envelope import ReplayGuard, open_envelope, seal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.errors import Refusal
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.crypto.envelope import Opened

    Asking = Literal["job", "poll", "report"]

_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A message of ours that somebody is to answer."""

    envelope: str
    message_id: str
    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who signs and who reads: a control plane, an agent or a runner."""

    name: str
    key: Ed25519PrivateKey
    trusted: Mapping[str, Sequence[Ed25519PublicKey]]
    """The keys of those that it hears, by their names."""
    clock: Clock
    random: Random
    seen: ReplayGuard = field(default_factory=ReplayGuard)

    def ask(self, payload: bytes, *, reader: str, purpose: Asking) -> Question:
        """Seal a question to one reader."""
        message_id = self._new_id()
        envelope = seal(
            payload,
            key=self.key,
            sender=self.name,
            audience=reader,
            purpose=purpose,
            message_id=message_id,
            now=self.clock.now(),
        )
        return Question(envelope=envelope, message_id=message_id, reader=reader)

    def open(self, envelope: str, purpose: Asking) -> Opened | Refusal:
        """Return a question to us, or why it is refused."""
        return open_envelope(
            envelope,
            trusted=self.trusted,
            audience=self.name,
            purpose=purpose,
            now=self.clock.now(),
            seen=self.seen,
        )

    def answer(self, payload: bytes, question: Opened) -> str:
        """Seal an answer to whoever asked. One question may have several."""
        return seal(
            payload,
            key=self.key,
            sender=self.name,
            audience=question.sender,
            purpose="result",
            message_id=self._new_id(),
            now=self.clock.now(),
            in_reply_to=question.message_id,
        )

    def open_answer(self, envelope: str, question: Question) -> Opened | Refusal:
        """Return an answer to our question, or why it is refused."""
        return open_envelope(
            envelope,
            trusted={question.reader: self.trusted.get(question.reader, ())},
            audience=self.name,
            purpose="result",
            now=self.clock.now(),
            seen=self.seen,
            in_reply_to=question.message_id,
        )

    def _new_id(self) -> str:
        return self.random.bytes(_ID_BYTES).hex()
