"""Makes exports of a chain, true and false ones, with what agents sign in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatekeeper.kernel.audit import (
    CHAIN,
    GENESIS,
    Actor,
    AuditEvent,
    AuditKind,
    checkpoint_message,
    link,
    timestamp,
)
from gatekeeper.kernel.ids import SessionId, role_name
from gatekeeper.platform.crypto.envelope import seal
from gatekeeper.platform.crypto.signing import SigningKey
from gatekeeper.wire import jobs
from gatekeeper.wire.audit import EXPORT_FORMAT, exported_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEY: Final = SigningKey(Ed25519PrivateKey.generate())
AGENT: Final = SigningKey(Ed25519PrivateKey.generate())
AT: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
TARGET_AT: Final = AT - timedelta(minutes=30)
"""The target's clock is another one."""
SESSION: Final = SessionId("ses_" + "a" * 20)
CORRELATION: Final = "cor_1"


def event(kind: AuditKind = AuditKind.SESSION_CREATED, **data: Any) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        at=AT,
        actor=Actor(kind="human", key="https://i#dana"),
        plane="databases",
        correlation_id=CORRELATION,
        session=SESSION,
        target="pg",
        data=data,
    )


def created(number: int) -> AuditEvent:
    return event(n=number, list=[1, "é", None, True], reason='weil "ja"')


def started(key: SigningKey = AGENT, agent: str = "agent") -> AuditEvent:
    public = json.loads(key.public_jwk())["x"]
    return event(AuditKind.CONTROL_PLANE_STARTED, agents={agent: public})


def ready(result: dict[str, Any] | None = None, **changes: Any) -> AuditEvent:
    """Tell of a login that was made; `result` and `changes` bend what is signed and told."""
    given: dict[str, Any] = {
        "job_id": f"create:{SESSION}",
        "correlation_id": CORRELATION,
        "status": "ready",
        "expires_at": TARGET_AT + timedelta(minutes=5),
        "target_now": TARGET_AT,
    }
    signed = jobs.CreateSessionResult(**given | (result or {}))
    data = {
        "username": role_name(SESSION),
        "expiresAt": timestamp(AT + timedelta(minutes=5)),
        "receipt": receipt(signed),
    }
    return event(AuditKind.SESSION_READY, **(data | changes))


def extended(result: dict[str, Any] | None = None, **changes: Any) -> AuditEvent:
    given: dict[str, Any] = {
        "job_id": f"extend:{SESSION}:00",
        "correlation_id": CORRELATION,
        "status": "extended",
        "expires_at": TARGET_AT + timedelta(minutes=9),
        "target_now": TARGET_AT,
    }
    signed = jobs.ExtendSessionResult(**given | (result or {}))
    data = {"expiresAt": timestamp(AT + timedelta(minutes=9)), "receipt": receipt(signed)}
    return event(AuditKind.SESSION_EXTENDED, **(data | changes))


def cleaned(result: dict[str, Any] | None = None, **changes: Any) -> AuditEvent:
    data = {
        "username": role_name(SESSION),
        "existed": True,
        "backendsEnded": 2,
        "lagMs": 90,
        "accessCutLagMs": 40,
        "owned": ["shop: table t"],
        "receipt": receipt(gone(result)),
    }
    return event(AuditKind.SESSION_CLEANED, **(data | changes))


def reconciled(result: dict[str, Any] | None = None, **changes: Any) -> AuditEvent:
    data = {"drift": "leaked", "receipt": receipt(gone(result))}
    return event(AuditKind.TARGET_RECONCILED, **(data | changes))


def gone(changes: dict[str, Any] | None = None) -> jobs.RevokeSessionResult:
    given: dict[str, Any] = {
        "job_id": f"revoke:{SESSION}",
        "correlation_id": CORRELATION,
        "status": "gone",
        "existed": True,
        "backends_ended": 2,
        "access_cut_at": TARGET_AT,
        "verified_at": TARGET_AT + timedelta(milliseconds=50),
        "owned": (jobs.OwnedObjectsReport(database="shop", objects=("table t",)),),
    }
    return jobs.RevokeSessionResult(**given | (changes or {}))


def receipt(result: jobs.Result, key: SigningKey = AGENT, **changes: Any) -> str:
    values: dict[str, Any] = {
        "sender": "agent",
        "audience": "plane",
        "purpose": "result",
        "message_id": "m1",
        "now": AT,
        "in_reply_to": "m0",
    }
    payload = result.model_dump_json(by_alias=True).encode()
    return seal(payload, key=key.private, **(values | changes))


def chain(events: Iterable[AuditEvent]) -> list[bytes]:
    """Link events; return their lines in an export."""
    lines, previous = [], GENESIS
    for seq, one in enumerate(events, start=1):
        made = link(one.fields(), seq=seq, previous=previous)
        previous = made.hash
        lines.append(exported_event(made.seq, made.hash, made.canonical).rstrip())
    return lines


def checkpoint(events: Sequence[bytes], key: SigningKey = KEY) -> bytes:
    return signed_head(len(events), json.loads(events[-1])["hash"], key)


def signed_head(size: int, head: str, key: SigningKey = KEY) -> bytes:
    name = key.key_id
    message = checkpoint_message(chain=CHAIN, size=size, head=head, at="now", key_id=name)
    fields = {
        "type": "checkpoint",
        "chain": CHAIN,
        "size": size,
        "head": head,
        "at": "now",
        "keyId": name,
        "signature": key.sign(message).hex(),
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def header(key: SigningKey = KEY, **changes: Any) -> bytes:
    fields = {
        "type": "header",
        "format": EXPORT_FORMAT,
        "chain": CHAIN,
        "publicKey": key.public_jwk(),
    }
    return json.dumps(fields | changes).encode()


def export(events: Sequence[bytes], *signed: int, key: SigningKey = KEY) -> list[bytes]:
    """Return an export whose checkpoints stand behind the events of these numbers."""
    lines = [header(key)]
    for seq, line in enumerate(events, start=1):
        lines.append(line)
        if seq in signed:
            lines.append(checkpoint(events[:seq], key))
    return lines
