"""Receipts: what an agent or a runner signed must agree with the event that holds it. Pure.

An agent's receipt is its own signed result, kept in the event as it was signed; a runner's is
made for the evidence (`kernel.terminal.receipts`). The chain itself says which keys they have:
a control plane that starts names them. So control plane and agent, or runner, must lie
together to be believed.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel.audit import AuditKind
from gatekeeper.kernel.ids import SessionId, role_name
from gatekeeper.kernel.signed import Keyring
from gatekeeper.kernel.terminal.receipts import (
    RUNNER_RECEIPT_TYPE,
    RUNNERS_SPEAK,
    KnownTerminals,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from gatekeeper.kernel.signed import Said

RECEIPT_TYPE: Final = "gatekeeper-result+jws"
"""Explicit typing (RFC 8725 section 3.11): a job is never taken for a result."""
CLOCKS_APART: Final = timedelta(days=1)
"""An agent signs by its own clock, an event tells the store's. Either may be wrong by hours,
and what happened must still be provable; a receipt of another day is another occasion's."""
ANSWERED_WITHIN: Final = timedelta(seconds=150)
"""An access is counted from when the agent was asked, an event from when it had answered."""
LAG_ROUNDING_MS: Final = 1
_MILLISECOND: Final = timedelta(milliseconds=1)

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


class ReceiptVerifier:
    """Checks the receipts of a chain, given its events of `audit.SPEAKING` in their order."""

    def __init__(
        self,
        verify: Callable[[str, bytes, bytes], bool],
        *,
        pinned: Collection[str] | None = None,
        pinned_runners: Collection[str] | None = None,
    ) -> None:
        """`verify(public, signature, message)` checks an Ed25519 signature.

        `pinned` are the ids of the only agents' keys to be believed, `pinned_runners` those of
        runners.
        """
        self._agents = Keyring("agent", RECEIPT_TYPE, verify, pinned=pinned)
        self._runners = Keyring("runner", RUNNER_RECEIPT_TYPE, verify, pinned=pinned_runners)
        self._terminals = KnownTerminals()
        self.receipts = 0
        """How many were good."""

    @property
    def agents(self) -> Mapping[str, str]:
        """The agents' keys that the chain named so far, by key id."""
        return self._agents.owners

    @property
    def runners(self) -> Mapping[str, str]:
        """The same of runners."""
        return self._runners.owners

    def fault(self, fields: Mapping[str, Any]) -> str | None:
        """Return what is wrong with an event's receipt; None when it is good or none is needed."""
        try:
            if fields["kind"] == AuditKind.CONTROL_PLANE_STARTED:
                self._agents.learn(fields["data"].get("agents", {}))
                self._runners.learn(fields["data"].get("runners", {}))
                return None
            if fields["kind"] in RUNNERS_SPEAK:
                return self._of_runner(fields)
            return self._disagreement(
                fields, self._agents, _agreements, needless=lambda: _needs_none(fields)
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            return "its receipt, or what it says of it, has the wrong shape"

    def _of_runner(self, fields: Mapping[str, Any]) -> str | None:
        terminals = self._terminals
        what = self._disagreement(
            fields, self._runners, terminals.agreements, needless=lambda: terminals.are_mute(fields)
        )
        if what is None:
            terminals.note(fields)
        return what

    def _disagreement(
        self,
        fields: Mapping[str, Any],
        keys: Keyring,
        agreements: Callable[[Mapping[str, Any], Said], Iterator[tuple[str, bool]]],
        *,
        needless: Callable[[], bool],
    ) -> str | None:
        if "receipt" not in fields["data"]:
            return None if needless() else f"the {keys.signer}'s receipt is missing"
        said = keys.open(fields["data"]["receipt"])
        if isinstance(said, str):
            return f"its receipt is refused: {said}"
        at = datetime.fromisoformat(fields["at"])
        timely = ("the time", abs(at - said.at) <= CLOCKS_APART)
        claims = chain((timely,), agreements(fields, said))
        what = next((name for name, good in claims if not good), None)
        if what is not None:
            return f"the {keys.signer} signed something else: {what} differs"
        self.receipts += 1
        return None


def _needs_none(fields: Mapping[str, Any]) -> bool:
    """A repair that failed has none; and only a leaked login is ended by the repair itself."""
    data = fields["data"]
    return fields["kind"] == AuditKind.TARGET_RECONCILED and (
        "problem" in data or data["drift"] != "leaked"
    )


def _agreements(fields: Mapping[str, Any], said: Said) -> Iterator[tuple[str, bool]]:
    """Hold every claim of an event against what its agent signed."""
    data, result = fields["data"], said.payload
    at, session = datetime.fromisoformat(fields["at"]), fields["session"]
    kind, verb, status = _EXPECTED[fields["kind"]]
    job = verb if session is None else f"{verb}:{session}"
    yield "what was done", result["type"] == kind
    yield "the session", result["jobId"] == job or result["jobId"].startswith(f"{job}:")
    yield "the request", result["correlationId"] == fields["correlationId"]
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
