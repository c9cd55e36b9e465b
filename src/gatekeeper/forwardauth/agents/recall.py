"""Allowing answers that can be given again, a part of agent 9: the same parts, the same answer.

A decision that asks nobody and reads no clock is a function of the parts of the request it
reads. Where these are few, whoever passed once passes again by one look into a dictionary,
keyed by the parts themselves. Refusals are not remembered: strangers can make any number.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from gatekeeper.forwardauth.model import Answer, OriginalRequest, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatekeeper.forwardauth.model import Read

MAX_REMEMBERED: Final = 4_096
"""Answers of one endpoint; then it begins anew."""
MAX_PART_BYTES: Final = 1_024
"""Of all parts of one answer together."""

_ATTRIBUTES: Final = {
    "request.method": "method",
    "request.scheme": "scheme",
    "request.host": "host",
    "request.port": "port",
    "request.path": "path",
    "request.rawPath": "raw_path",
    "request.rawQuery": "raw_query",
    "request.query": "raw_query",
    "request.queryAll": "raw_query",
    "request.client": "client",
    "request.proxied": "proxied",
}
_FIELDS: Final = frozenset({"request.headers", "request.headersAll"})
_DERIVED: Final = frozenset(
    {"admission.authenticated", "auth.forward", "auth.input", "auth.selected", "env", "secrets"}
    | {"request.endpoint", "response", "rules", "vars.global", "vars.local"}
)
"""What an endpoint's configuration and the other parts make up."""

Parts = tuple[Any, ...]


class Recall:
    """Remembers allowing answers of one endpoint, for as long as its plan is in force."""

    def __init__(self, attributes: Iterable[str], fields: Iterable[bytes]) -> None:
        # Two at least, so that it gives a tuple whatever is read.
        self._attributes = attrgetter("method", "scheme", *attributes)
        self._fields = tuple(fields)
        self._answers: dict[Parts, Answer] = {}

    def parts(self, request: OriginalRequest) -> Parts | None:
        """Take what an answer depends on out of a request; None: it is not one to remember."""
        if request.repeated:
            return None
        get = request.fields.get
        return (self._attributes(request), *[get(name) for name in self._fields])

    def get(self, parts: Parts | None) -> Answer | None:
        return self._answers.get(parts) if parts is not None else None

    def keep(self, parts: Parts | None, answer: Answer) -> None:
        """Remember an answer, if it allows."""
        if parts is None or answer.outcome is not Outcome.PASS:
            return
        sized = (part for part in (*parts[0], *parts[1:]) if isinstance(part, str | bytes))
        if sum(map(len, sized)) > MAX_PART_BYTES:
            return
        if len(self._answers) >= MAX_REMEMBERED:
            self._answers.clear()
        self._answers[parts] = answer


def recall_of(reads: Iterable[Read]) -> Recall | None:
    """Make the memory for decisions that read this and no more; None when it is too much."""
    attributes: set[str] = set()
    fields: set[bytes] = set()
    for name, *keys in reads:
        if name in _ATTRIBUTES:
            attributes.add(_ATTRIBUTES[name])
        elif name in _FIELDS and keys:
            fields.add(keys[0].encode("latin-1", "replace"))
        elif name == "request.cookies":
            fields.add(b"cookie")
        elif name not in _DERIVED:
            return None
    return Recall(sorted(attributes), sorted(fields))
