"""What a dialect is: how one kind of proxy asks, and how it can be answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatekeeper.forwardauth.model import Answer, OriginalRequest, RawRequest, Rejected, Reply
from gatekeeper.forwardauth.request.head import read_head
from gatekeeper.forwardauth.request.original import (
    Told,
    original_request,
    request_as_it_arrived,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatekeeper.forwardauth.request.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one kind of proxy asks, and how it can be answered."""

    name: str
    headers: frozenset[bytes]
    """Everything of the request's description it reads. Nothing else is, whatever it says."""
    tell: Callable[[RawRequest, Mapping[bytes, bytes]], Told | Rejected]
    """Collects what the proxy said out of the headers; `KeyError` when one is missing."""
    write: Callable[[Answer], Reply]
    """Puts an answer into what the proxy can carry."""

    def read(self, raw: RawRequest, reading: Reading) -> OriginalRequest | Rejected:
        """Return the request the client made, if whoever tells of it is believed.

        `raw.target` is what follows the mount (`Mount.rest`). A header that is missing is
        never made up for: a proxy may have been made to drop it (CVE-2025-48865).
        """
        if not reading.trusted.is_trusted(raw.peer):
            if reading.development_mode:
                return request_as_it_arrived(raw, reading)
            return Rejected(403, "the peer is no trusted proxy")
        head = read_head(raw.headers, reading.names, reading.single)
        if isinstance(head, Rejected):
            return head
        try:
            told = self.tell(raw, head[0])
        except KeyError as missing:
            return Rejected(400, f"{missing.args[0].decode()} is missing")
        if isinstance(told, Rejected):
            return told
        return original_request(told, head, reading)
