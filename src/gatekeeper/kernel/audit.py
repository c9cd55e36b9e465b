"""Audit events and the hash chain that links them. Pure: bytes in, findings out.

An event's *canonical bytes* are the RFC 8785 form of all its fields, its sequence
number and the previous hash included; its hash is their SHA-256. The first event
has sequence number 1 and follows `GENESIS`. A chain alone cannot show that its tail
was cut or that all of it was rewritten: signed checkpoints do. See docs/AUDIT.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]

CHAIN: Final = "gatekeeper"
VERSION: Final = 1
GENESIS: Final = "0" * 64
"""What the first event names as the hash before it."""


class AuditKind(StrEnum):
    """Everything that leaves an event. docs/AUDIT.md says why for each."""

    SESSION_CREATED = "session.created"
    SESSION_DENIED = "session.denied"
    SESSION_READY = "session.ready"
    SESSION_FAILED = "session.failed"
    SESSION_EXTENDED = "session.extended"
    SESSION_REVOKED = "session.revoked"
    SESSION_EXPIRED = "session.expired"
    SESSION_CLEANED = "session.cleaned"
    SESSION_CLEANUP_FAILED = "session.cleanup_failed"
    TARGET_RECONCILED = "target.reconciled"
    POLICY_LOADED = "policy.loaded"
    POLICY_REJECTED = "policy.rejected"
    TOKEN_EXCHANGED = "token.exchanged"  # noqa: S105  # a kind of event
    TOKEN_REFUSED = "token.refused"  # noqa: S105  # a kind of event
    CONTROL_PLANE_STARTED = "control_plane.started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who did it: a principal's kind and key, or the system itself."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What happened, before it has its place in the chain.

    `data` is I-JSON (RFC 7493) without fractions: text, integers below 2^53, booleans,
    null, lists and objects of these.
    """

    kind: AuditKind
    at: datetime
    actor: Actor
    plane: str
    correlation_id: str
    session: str | None = None
    target: str | None = None
    data: Mapping[str, Json] = field(default_factory=dict)

    def fields(self) -> dict[str, Json]:
        """Return the event as JSON, without its place in the chain."""
        return {
            "v": VERSION,
            "kind": self.kind.value,
            "at": self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "actor": {"kind": self.actor.kind, "key": self.actor.key},
            "plane": self.plane,
            "correlationId": self.correlation_id,
            "session": self.session,
            "target": self.target,
            "data": dict(self.data),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedEvent:
    """An event with its place: what is stored, exported and verified."""

    seq: int
    hash: str
    canonical: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed statement: at `at` the chain had `size` events and ended in `head`."""

    chain: str
    size: int
    head: str
    at: str
    key_id: str
    signature: str
    """Ed25519 over `message()`, in hexadecimal."""

    def message(self) -> bytes:
        """Return the bytes that are signed."""
        return checkpoint_message(
            chain=self.chain, size=self.size, head=self.head, at=self.at, key_id=self.key_id
        )


def checkpoint_message(*, chain: str, size: int, head: str, at: str, key_id: str) -> bytes:
    return b"gatekeeper-checkpoint-v1\n" + rfc8785.dumps(
        {"chain": chain, "size": size, "head": head, "at": at, "keyId": key_id}
    )


def link(
    fields: Mapping[str, Json], *, seq: int, previous: str, chain: str = CHAIN
) -> ChainedEvent:
    """Give an event its place behind `previous`."""
    placed: Any = {**fields, "chain": chain, "seq": seq, "prev": previous}
    canonical = rfc8785.dumps(placed)
    return ChainedEvent(seq=seq, hash=hashlib.sha256(canonical).hexdigest(), canonical=canonical)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The first thing that is wrong, and at which event."""

    seq: int
    what: str


class ChainVerifier:
    """Checks a chain event by event, and checkpoints as they come.

    Feed events in the order they were found, and each checkpoint at any time after
    the event it names; then ask `finish`. Only the first fault is kept.
    """

    def __init__(self, verify: Callable[[str, bytes, bytes], bool], *, chain: str = CHAIN) -> None:
        """`verify(key_id, signature, message)` tells whether a trusted key signed it."""
        self._verify = verify
        self._chain = chain
        self._seq = 0
        self._head = GENESIS
        self._heads: dict[int, str] = {0: GENESIS}
        self._checkpoints: list[Checkpoint] = []
        self.broken: Broken | None = None

    @property
    def events(self) -> int:
        """How many events were whole so far."""
        return self._seq

    @property
    def head(self) -> str:
        return self._head

    def add(self, event: ChainedEvent) -> None:
        """Check the next event. After the first fault nothing more is looked at."""
        if self.broken is not None:
            return
        what = self._fault(event)
        if what is not None:
            self.broken = Broken(seq=self._seq + 1, what=what)
            return
        self._seq += 1
        self._head = event.hash
        self._heads[self._seq] = event.hash

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._checkpoints.append(checkpoint)

    def finish(self, *, signed: bool = True) -> Broken | None:
        """Return the first fault, checkpoints included; None when the chain is whole.

        With `signed` the chain must end in a checkpoint: events after the newest one
        could have been appended or cut by anyone.
        """
        for checkpoint in sorted(self._checkpoints, key=lambda c: c.size):
            self._check(checkpoint)
        newest = max((c.size for c in self._checkpoints), default=0)
        if self.broken is None and signed and newest < self._seq:
            self.broken = Broken(
                seq=newest + 1, what="no signed checkpoint covers this event and those after it"
            )
        return self.broken

    def _fault(self, event: ChainedEvent) -> str | None:
        if hashlib.sha256(event.canonical).hexdigest() != event.hash:
            return "its hash does not fit its contents: it was changed"
        try:
            fields = json.loads(event.canonical)
            seq, previous, chain = fields["seq"], fields["prev"], fields["chain"]
        except (ValueError, KeyError, TypeError):
            return "it is not an event"
        if event.seq != seq or seq != self._seq + 1:
            return f"event {seq} stands here: one was removed, inserted or moved"
        if previous != self._head:
            return "it does not follow the event before it"
        return None if chain == self._chain else "it belongs to another chain"

    def _check(self, checkpoint: Checkpoint) -> None:
        what = self._checkpoint_fault(checkpoint)
        if what is None:
            return
        seq = min(checkpoint.size, self._seq + 1)
        if self.broken is None or seq < self.broken.seq:
            self.broken = Broken(seq=seq, what=what)

    def _checkpoint_fault(self, checkpoint: Checkpoint) -> str | None:
        try:
            signature = bytes.fromhex(checkpoint.signature)
        except ValueError:
            return "the checkpoint here has no signature"
        if signature.hex() != checkpoint.signature:
            return "the checkpoint here is written in another way than it was signed"
        if checkpoint.chain != self._chain:
            return "the checkpoint here belongs to another chain"
        if not self._verify(checkpoint.key_id, signature, checkpoint.message()):
            return "the checkpoint here is not signed by a trusted key"
        if checkpoint.size > self._seq:
            if self.broken is not None:
                return None
            return "the chain ends before it: its tail was cut off"
        if self._heads[checkpoint.size] != checkpoint.head:
            return "the signed checkpoint says otherwise: the chain was rewritten"
        return None
