"""Runners' receipts: what a runner signed must agree with the event that holds it. Pure.

A result or a report of a runner holds more than evidence may keep (what was on a screen, the
verifier of a password), so for each thing that comes into the evidence it signs a statement:
about which terminal, in which launch, and the facts. It is a compact JWS of a type of its own.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.kernel.audit import AuditKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gatekeeper.kernel.signed import Said

    Agree = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[tuple[str, bool]]]

RUNNER_RECEIPT_TYPE: Final = "gatekeeper-statement+jws"
"""Explicit typing (RFC 8725 section 3.11): no message is ever taken for a statement."""
RUNNER_LOST: Final = "runner_lost"
"""The ending of what nobody is there any more to sign for."""


def _ready(data: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "the sandbox", data["sandbox"] == facts["sandbox"]


def _attached(data: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for name, what in (("subject", "who attached"), ("mode", "the mode"), ("protocol", "how")):
        yield what, data["told"][name] == facts[name]


def _lease(data: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "who may type", data["told"]["holder"] == facts["holder"]


def _recorded(data: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    told = data["told"]
    yield "the segment", told["segment"] == facts["number"]
    yield "the head", told["head"] == facts["head"]
    yield "the bytes", told["bytes"] == facts["bytes"]


def _ended(data: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "how it ended", data["ended"] == facts["ended"]


def _gone(data: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "that it is gone", facts["gone"] is True
    yield "whether it existed", data["existed"] == facts["existed"]
    yield "the processes ended", data["processesEnded"] == facts["processesEnded"]
    yield from _ended(data, facts)


_EXPECTED: Final[Mapping[str, tuple[str, Agree]]] = MappingProxyType(
    {
        AuditKind.TERMINAL_READY: ("launched", _ready),
        AuditKind.TERMINAL_ATTACHED: ("attached", _attached),
        AuditKind.TERMINAL_LEASE_PASSED: ("lease", _lease),
        AuditKind.TERMINAL_RECORDED: ("segment", _recorded),
        AuditKind.TERMINAL_ENDED: ("ended", _ended),
        AuditKind.TERMINAL_EXPIRED: ("ended", _ended),
        AuditKind.TERMINAL_REVOKED: ("ended", _ended),
        AuditKind.TERMINAL_CLEANED: ("gone", _gone),
    }
)
"""By kind of event: what the runner must have said, and how it is held against the event."""
RUNNERS_SPEAK: Final = frozenset(_EXPECTED)
_OFTEN_OURS: Final = frozenset({AuditKind.TERMINAL_EXPIRED, AuditKind.TERMINAL_REVOKED})
"""Mostly the control plane's doing: a receipt is there when the runner was first to end it."""


class KnownTerminals:
    """The terminals of a chain that are ready and not yet cleaned, with the launch of each.

    It does not grow with the chain, and an entry costs a runner's signature.
    """

    def __init__(self) -> None:
        self._launches: dict[str, str] = {}

    def are_mute(self, fields: Mapping[str, Any]) -> bool:
        """Tell whether nobody was there to sign an event."""
        kind, data = fields["kind"], fields["data"]
        if kind == AuditKind.TERMINAL_ENDED:
            return bool(data["ended"]["ending"] == RUNNER_LOST)
        if kind == AuditKind.TERMINAL_CLEANED:
            # It never had a place at the runner, so nothing was asked of it.
            nothing = not data["existed"] and data["processesEnded"] == 0 and data["ended"] is None
            return nothing and fields["session"] not in self._launches
        return kind in _OFTEN_OURS

    def agreements(self, fields: Mapping[str, Any], said: Said) -> Iterator[tuple[str, bool]]:
        """Hold every claim of an event against what its runner signed."""
        data, statement = fields["data"], said.payload
        kind, agree = _EXPECTED[fields["kind"]]
        instance = self._launches.get(fields["session"], data["instance"])
        yield "what was done", statement["facts"]["type"] == kind
        yield "the runner", said.by == fields["target"]
        yield "the terminal", statement["terminal"] == fields["session"]
        yield "the launch", statement["instance"] == data["instance"] == instance
        yield from agree(data, statement["facts"])

    def note(self, fields: Mapping[str, Any]) -> None:
        """Keep up with an event that was found good."""
        if fields["kind"] == AuditKind.TERMINAL_READY:
            self._launches[fields["session"]] = fields["data"]["instance"]
        elif fields["kind"] == AuditKind.TERMINAL_CLEANED:
            self._launches.pop(fields["session"], None)
