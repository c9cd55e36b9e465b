"""Receipts: what an agent signed must agree with the event that holds it. Pure.

A receipt is the agent's own signed result, a compact JWS (RFC 7515) with Ed25519, kept in
the event as it was signed. The chain itself says which keys agents have: a control plane
that starts names them. So control plane and agent must lie together to be believed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel import base64url
from gatekeeper.kernel.audit import AuditKind
from gatekeeper.kernel.ids import SessionId, role_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

RECEIPT_ALGORITHM: Final = "Ed25519"
RECEIPT_TYPE: Final = "gatekeeper-result+jws"
"""Explicit typing (RFC 8725 section 3.11): a job is never taken for a result."""
CLOCKS_APART: Final = timedelta(days=1)
"""An agent signs by its own clock, an event tells the store's. Either may be wrong by hours,
and what happened must still be provable; a receipt of another day is another occasion's."""
ANSWERED_WITHIN: Final = timedelta(seconds=150)
"""An access is counted from when the agent was asked, an event from when it had answered."""
LAG_ROUNDING_MS: Final = 1
_MILLISECOND: Final = timedelta(milliseconds=1)

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_EXPECTED: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        AuditKind.SESSION_READY: ("create_session", "create", "ready"),
        AuditKind.SESSION_EXTENDED: ("extend_session", "extend", "extended"),
        AuditKind.SESSION_CLEANED: ("revoke_session", "revoke", "gone"),
        AuditKind.TARGET_RECONCILED: ("revoke_session", "revoke", "gone"),
        AuditKind.TARGET_CLEANED: ("cleanup", "cleanup", "completed"),
    }
)
"""By kind of event: type of the result, verb of its job, and its status."""
_READ: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = MappingProxyType(
    {
        "create_session": (frozenset(), frozenset({"expiresAt", "targetNow"})),
        "extend_session": (frozenset(), frozenset({"expiresAt", "targetNow"})),
        "revoke_session": (
            frozenset({"existed", "backendsEnded", "owned"}),
            frozenset({"accessCutAt", "verifiedAt"}),
        ),
        "cleanup": (frozenset({"cleaned"}), frozenset()),
    }
)
"""By type of result: what is read of one that did its job, and which times."""


def key_id(public: str) -> str:
    """Name an Ed25519 public key (the `x` of its JWK): RFC 7638 over what RFC 8037 requires."""
    named = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": public}, separators=(",", ":"))
    digest = hashlib.sha256(named.encode()).digest()
    return base64url.encode(digest)


def is_legible(result: bytes) -> bool:
    """Tell whether `ReceiptVerifier` could read a result of a job that was done.

    One that is kept and cannot be read breaks the chain for whoever verifies it.
    """
    try:
        said = json.loads(result)
        names, times = _READ.get(said["type"], (frozenset(), frozenset()))
        return names <= said.keys() and all(_time(said[name]).tzinfo for name in times)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What an agent signed, and when by its own clock."""

    result: Mapping[str, Any]
    at: datetime


class ReceiptVerifier:
    """Checks the receipts of a chain, given its events of `audit.SPEAKING` in their order."""

    def __init__(
        self,
        verify: Callable[[str, bytes, bytes], bool],
        *,
        pinned: Collection[str] | None = None,
    ) -> None:
        """`verify(public, signature, message)` checks an Ed25519 signature.

        `pinned` are the ids of the only agents' keys to be believed.
        """
        self._verify = verify
        self._pinned = pinned
        self._keys: dict[tuple[str, str], str] = {}
        self.receipts = 0
        """How many were good."""

    @property
    def agents(self) -> Mapping[str, str]:
        """The agents' keys that the chain named so far, by key id."""
        return {kid: agent for agent, kid in self._keys}

    def fault(self, fields: Mapping[str, Any]) -> str | None:
        """Return what is wrong with an event's receipt; None when it is good or none is needed."""
        try:
            if fields["kind"] == AuditKind.CONTROL_PLANE_STARTED:
                self._learn(fields["data"].get("agents", {}))
                return None
            return self._disagreement(fields)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            return "its receipt, or what it says of it, has the wrong shape"

    def _learn(self, agents: Mapping[str, str]) -> None:
        for agent, public in agents.items():
            self._keys[agent, key_id(public)] = public

    def _disagreement(self, fields: Mapping[str, Any]) -> str | None:
        data = fields["data"]
        if "receipt" not in data:
            return None if _needs_none(fields) else "the agent's receipt is missing"
        said = self._open(data["receipt"])
        if isinstance(said, str):
            return f"its receipt is refused: {said}"
        what = next((name for name, good in _agreements(fields, said) if not good), None)
        if what is not None:
            return f"the agent signed something else: {what} differs"
        self.receipts += 1
        return None

    def _open(self, receipt: str) -> _Said | str:
        parts = _COMPACT.fullmatch(receipt)
        if parts is None:
            return "it is not a signed result"
        head, body, signature = (base64url.decode(part) for part in parts.groups())
        header, claims = json.loads(head), json.loads(body)
        if header.keys() != {"alg", "typ", "kid"} or header["alg"] != RECEIPT_ALGORITHM:
            return "its header is not ours"
        if header["typ"] != RECEIPT_TYPE:
            return "it serves another purpose"
        public = self._keys.get((claims["iss"], header["kid"]))
        if public is None:
            return "the chain names no such key of this agent before it"
        if self._pinned is not None and header["kid"] not in self._pinned:
            return "it is not signed by an agent's key you gave"
        if not self._verify(public, signature, receipt.rpartition(".")[0].encode()):
            return "its signature is wrong"
        return _Said(
            result=json.loads(claims["payload"]), at=datetime.fromtimestamp(claims["iat"], UTC)
        )


def _needs_none(fields: Mapping[str, Any]) -> bool:
    """A repair that failed has none; and only a leaked login is ended by the repair itself."""
    data = fields["data"]
    return fields["kind"] == AuditKind.TARGET_RECONCILED and (
        "problem" in data or data["drift"] != "leaked"
    )


def _agreements(fields: Mapping[str, Any], said: _Said) -> Iterator[tuple[str, bool]]:
    """Hold every claim of an event against what its agent signed."""
    data, result = fields["data"], said.result
    at, session = datetime.fromisoformat(fields["at"]), fields["session"]
    kind, verb, status = _EXPECTED[fields["kind"]]
    job = verb if session is None else f"{verb}:{session}"
    yield "what was done", result["type"] == kind
    yield "the session", result["jobId"] == job or result["jobId"].startswith(f"{job}:")
    yield "the request", result["correlationId"] == fields["correlationId"]
    yield "the time", abs(at - said.at) <= CLOCKS_APART
    yield "the outcome", (result["status"] == status) != ("problem" in data)
    if fields["kind"] == AuditKind.TARGET_CLEANED:
        yield "what was cleaned", data["cleaned"] == result["cleaned"]
        return
    username = role_name(SessionId(session))
    yield "the username", data.get("username", username) == username
    if kind != "revoke_session":
        # Two clocks, one difference: in the store no more remains than at the target.
        remaining = _time(result["expiresAt"]) - _time(result["targetNow"])
        late = at + remaining - _time(data["expiresAt"])
        yield "when it ends", timedelta() <= late <= ANSWERED_WITHIN
    if fields["kind"] == AuditKind.SESSION_CLEANED:
        yield from _proof(data, result)


def _proof(data: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    owned = [f"{o['database']}: {name}" for o in result["owned"] for name in o["objects"]]
    proving = (_time(result["verifiedAt"]) - _time(result["accessCutAt"])) / _MILLISECOND
    cut = max(0, data["lagMs"] - proving)
    yield "whether it existed", data["existed"] == result["existed"]
    yield "the backends ended", data["backendsEnded"] == result["backendsEnded"]
    yield "what it owned", data["owned"] == owned
    yield "when access was cut", abs(data["accessCutLagMs"] - cut) <= LAG_ROUNDING_MS


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
