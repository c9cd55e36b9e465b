"""Audit events and the hash chain that links them. Pure: bytes in, findings out.

An event's *canonical bytes* are the RFC 8785 form of all its fields, its sequence
number and the previous hash included; its hash is their SHA-256. The first event
has sequence number 1 and follows `GENESIS`. A chain alone cannot show that its tail
was cut or that all of it was rewritten: signed checkpoints do. See docs/AUDIT.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatekeeper.kernel.identity import Principal

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
    TERMINAL_CREATED = "terminal.created"
    TERMINAL_DENIED = "terminal.denied"
    TERMINAL_READY = "terminal.ready"
    TERMINAL_FAILED = "terminal.failed"
    TERMINAL_ENDED = "terminal.ended"
    TERMINAL_REVOKED = "terminal.revoked"
    TERMINAL_EXPIRED = "terminal.expired"
    TERMINAL_CLEANED = "terminal.cleaned"
    TERMINAL_CLEANUP_FAILED = "terminal.cleanup_failed"
    TERMINAL_LOGIN_BOUND = "terminal.login_bound"
    TERMINAL_TICKET_ISSUED = "terminal.ticket_issued"
    TERMINAL_ATTACHED = "terminal.attached"
    TERMINAL_LEASE_PASSED = "terminal.lease_passed"
    TERMINAL_INPUT_SENT = "terminal.input_sent"
    TERMINAL_SHARED = "terminal.shared"
    TERMINAL_RECORDED = "terminal.recorded"
    TERMINAL_RECORDING_READ = "terminal.recording_read"
    TERMINAL_RECORDING_DELETED = "terminal.recording_deleted"
    TERMINAL_SCREEN_READ = "terminal.screen_read"
    CONSOLE_SIGNED_IN = "console.signed_in"
    CONSOLE_SIGNED_OUT = "console.signed_out"
    TARGET_RECONCILED = "target.reconciled"
    TARGET_CLEANED = "target.cleaned"
    POLICY_LOADED = "policy.loaded"
    POLICY_REJECTED = "policy.rejected"
    EVIDENCE_EXPORTED = "evidence.exported"
    STORE_MIGRATED = "store.migrated"
    TOKEN_EXCHANGED = "token.exchanged"  # noqa: S105  # a kind of event
    TOKEN_REFUSED = "token.refused"  # noqa: S105  # a kind of event
    CONTROL_PLANE_STARTED = "control_plane.started"


SPEAKING: Final = frozenset(
    {
        AuditKind.SESSION_READY,
        AuditKind.SESSION_EXTENDED,
        AuditKind.SESSION_CLEANED,
        AuditKind.TARGET_RECONCILED,
        AuditKind.TARGET_CLEANED,
        AuditKind.TERMINAL_READY,
        AuditKind.TERMINAL_ATTACHED,
        AuditKind.TERMINAL_LEASE_PASSED,
        AuditKind.TERMINAL_RECORDED,
        AuditKind.TERMINAL_ENDED,
        AuditKind.TERMINAL_EXPIRED,
        AuditKind.TERMINAL_REVOKED,
        AuditKind.TERMINAL_CLEANED,
        AuditKind.CONTROL_PLANE_STARTED,
    }
)
"""Events that hold a receipt of an agent or a runner, or the keys that they sign with."""


def timestamp(at: datetime) -> str:
    """Write a time as evidence does: UTC, always with six digits (RFC 3339)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who did it: a principal's kind and key, or the system itself."""

    kind: str
    key: str

    @classmethod
    def of(cls, principal: Principal) -> Actor:
        return cls(kind=principal.kind.value, key=principal.key)


SYSTEM: Final = Actor(kind="system", key="gatekeeper")


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
            "at": timestamp(self.at),
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


_PLACE: Final = re.compile(
    rb'\{"actor":\{"key":"[^"\\]*","kind":"[^"\\]*"\},"at":"[^"\\]*","chain":"([^"\\]*)",'
    rb'"correlationId":"[^"\\]*","data":\{.*\},"kind":"([a-z._]*)","plane":"[^"\\]*",'
    rb'"prev":"([^"\\]*)","seq":([0-9]{1,16}),"session":(?:null|"[^"\\]*"),'
    rb'"target":(?:null|"[^"\\]*"),"v":1\}'
)
"""Reads an event's place without parsing all of it, which is most of what verifying costs.

The names of a canonical object are sorted, so those around `data` stand at the two ends; no
string here holds a quote or a backslash, so none of them can begin inside another value.
What does not look like this is parsed.
"""


class ChainVerifier:
    """Checks a chain event by event, in memory that does not grow with it.

    Feed events in the order they were found, and each checkpoint right behind the event
    it names; then ask `finish`. Only the first fault is kept, and nothing after it is
    looked at.
    """

    def __init__(
        self,
        verify: Callable[[str, bytes, bytes], bool],
        *,
        chain: str = CHAIN,
        receipts: Callable[[Mapping[str, Any]], str | None] | None = None,
        kept: Checkpoint | None = None,
    ) -> None:
        """`verify(key_id, signature, message)` tells whether a trusted key signed it.

        `receipts` says what is wrong with the receipt of an event of `SPEAKING`; `kept` is
        a checkpoint of this chain from another place, which the chain must still contain.
        """
        self._verify = verify
        self._chain = chain
        self._receipts = receipts
        self._kept = kept
        self._seq = 0
        self._head = GENESIS
        self._signed = 0
        self.broken: Broken | None = None

    @property
    def events(self) -> int:
        """How many events were whole so far."""
        return self._seq

    @property
    def signed(self) -> int:
        """How many of them a signed checkpoint covers."""
        return self._signed

    @property
    def head(self) -> str:
        return self._head

    def add(self, *, seq: int, digest: str, canonical: bytes) -> None:
        """Check the next event: the number, hash and canonical bytes it was found with."""
        if self.broken is not None:
            return
        what = self._event_fault(seq, digest, canonical)
        if what is not None:
            self.fail(what)
            return
        self._seq += 1
        self._head = digest
        kept = self._kept
        if kept is not None and kept.size == seq and kept.head != digest:
            self.broken = Broken(
                seq=seq, what="the checkpoint you kept says otherwise: the chain was rewritten"
            )

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Check a checkpoint of the chain up to the event that was added last."""
        if self.broken is not None:
            return
        if checkpoint.size > self._seq:
            self.fail(f"a checkpoint counts {checkpoint.size} events: from here on they are gone")
            return
        what = self._checkpoint_fault(checkpoint)
        if what is not None:
            self.broken = Broken(seq=self._signed + 1, what=what)
            return
        self._signed = checkpoint.size

    def fail(self, what: str) -> None:
        """Say that the next event cannot even be read."""
        self.broken = self.broken or Broken(seq=self._seq + 1, what=what)

    def finish(self) -> Broken | None:
        """Return the first fault; None when the chain is whole, and signed to its end.

        Events after the newest checkpoint could have been appended or cut by anyone.
        """
        if self._kept is not None and self._kept.size > self._seq:
            self.fail(f"the checkpoint you kept counts {self._kept.size} events: the rest is gone")
        if self.broken is None and self._signed < self._seq:
            self.broken = Broken(
                seq=self._signed + 1,
                what="no signed checkpoint covers this event and those after it",
            )
        return self.broken

    def _event_fault(self, seq: int, digest: str, canonical: bytes) -> str | None:
        if hashlib.sha256(canonical).hexdigest() != digest:
            return "its hash does not fit its contents: it was changed"
        place = _place(canonical)
        if place is None:
            return "it is not an event"
        chain, kind, previous, number = place
        if number != seq or number != self._seq + 1:
            return f"event {number} stands here: one was removed, inserted or moved"
        if previous != self._head:
            return "it does not follow the event before it"
        if chain != self._chain:
            return "it belongs to another chain"
        if self._receipts is not None and kind in SPEAKING:
            try:
                fields = json.loads(canonical)
            except (ValueError, RecursionError):
                return "it is not an event"
            return self._receipts(fields)
        return None

    def _checkpoint_fault(self, checkpoint: Checkpoint) -> str | None:
        if checkpoint.size < self._seq:
            return "a checkpoint does not stand behind the event it names: it was moved"
        try:
            signature = bytes.fromhex(checkpoint.signature)
        except ValueError:
            return "the checkpoint over it has no signature"
        if signature.hex() != checkpoint.signature:
            return "the checkpoint over it is written in another way than it was signed"
        if checkpoint.chain != self._chain:
            return "the checkpoint over it belongs to another chain"
        if not self._verify(checkpoint.key_id, signature, checkpoint.message()):
            return "the checkpoint over it is not signed by a trusted key"
        if checkpoint.head != self._head:
            return (
                f"the signed checkpoint at event {checkpoint.size} says otherwise:"
                " this event, or one between, was rewritten"
            )
        return None


def _place(canonical: bytes) -> tuple[str, str, str, int] | None:
    """Return chain, kind, previous hash and number of an event; None when it is none."""
    if (found := _PLACE.fullmatch(canonical)) is not None:
        chain, kind, previous, seq = found.groups()
        return chain.decode(errors="replace"), kind.decode(), previous.decode(), int(seq)
    try:
        fields = json.loads(canonical)
        chain, kind, previous, seq = (fields[name] for name in ("chain", "kind", "prev", "seq"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    texts = all(isinstance(text, str) for text in (chain, kind, previous))
    return (chain, kind, previous, seq) if texts and type(seq) is int else None
