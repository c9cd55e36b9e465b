"""Evidence on the wire, and the lines of an export."""

from __future__ import annotations

from typing import Any, Final, Literal

from gatekeeper.wire.base import Response

EXPORT_FORMAT: Final = "gatekeeper-audit-1"
MAX_PAGE_EVENTS: Final = 1_000


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
