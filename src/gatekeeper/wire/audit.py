"""Evidence on the wire, and the lines of an export."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from gatekeeper.wire.base import Response

EXPORT_FORMAT: Final = "gatekeeper-audit-2"
MAX_PAGE_EVENTS: Final = 1_000

EXPORTED_EVENT: Final = re.compile(
    rb'\{"type":"event","seq":([1-9][0-9]{0,15}),"hash":"([0-9a-f]{64})","event":(\{.*\})\}\n?'
)
"""An event's line in an export, byte for byte: what stands behind "event" is what was hashed."""


def exported_event(seq: int, digest: str, canonical: bytes) -> bytes:
    """Return an event's line in an export."""
    head = f'{{"type":"event","seq":{seq},"hash":"{digest}","event":'
    return b"%b%b}\n" % (head.encode(), canonical)


class EventView(Response):
    """One event of the chain. `canonical` holds the exact bytes that `hash` is over (UTF-8)."""

    type: Literal["event"] = "event"
    seq: int
    hash: str
    canonical: str


class ActorView(Response):
    kind: str
    key: str


class EventFields(Response):
    """What the `canonical` text of an event says, with its place in the chain."""

    v: int
    kind: str
    at: str
    actor: ActorView
    plane: str
    correlation_id: str
    session: str | None
    target: str | None
    data: dict[str, Any]
    chain: str
    seq: int
    prev: str


class CheckpointView(Response):
    """A signed statement of how long the chain was, and where it ended."""

    type: Literal["checkpoint"] = "checkpoint"
    chain: str
    size: int
    head: str
    at: str
    key_id: str
    signature: str


class ExportHeader(Response):
    """The first line of an export. Its key is what the exporter *claims*: compare it."""

    type: Literal["header"] = "header"
    format: str
    chain: str
    public_key: str


class EventPage(Response):
    """Events in order; `next` is the value of `after` for the following page."""

    items: tuple[EventView, ...]
    next: int | None = None


class CheckpointPage(Response):
    items: tuple[CheckpointView, ...]


class Proof(Response):
    """One event, the events between it and the next signed checkpoint, and that checkpoint."""

    event: EventView
    links: tuple[EventView, ...]
    checkpoint: CheckpointView
