"""The one strict pass over the headers that arrived."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from gatekeeper.forwardauth.model import Rejected

MAX_HEADERS: Final = 128
MAX_NAME_BYTES: Final = 128
MAX_VALUE_BYTES: Final = 65_536
"""Of all values together."""
MAX_REMEMBERED_NAMES: Final = 1_024
"""Then all but the usual ones are forgotten."""

CONNECTION: Final = b"connection"

TOLD: Final = frozenset(
    {
        b"x-forwarded-method",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-uri",
        b"x-original-method",
        b"x-original-url",
    }
)
"""Headers by which proxies tell of a request and that have one value. X-Forwarded-For and
Forwarded are lists."""

_PROXY_PREFIXES: Final = (b"x-forwarded-", b"x-original-", b"x-envoy-")
_PROXY_NAMES: Final = frozenset(
    {b"forwarded", b"x-forwarded", b"x-real-ip", b"x-rewrite-url", b"x-auth-request-redirect"}
)
# RFC 9110 section 7.6.1 and what came before it. They and the next two are about this message,
# not about the client's; `request.host` tells the host.
_HOP_BY_HOP: Final = frozenset(
    {
        CONNECTION,
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_USUAL_CONNECTIONS: Final = frozenset(
    {None, b"close", b"keep-alive", b"Keep-Alive", b"upgrade", b"Upgrade"}
)
"""They name no header but those dropped anyway."""
_OF_THIS_MESSAGE: Final = _HOP_BY_HOP | {b"host", b"content-length"}

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_FOLDED: Final = re.compile(rb"[^0-9a-z]")
# A field value has no control bytes but tab (RFC 9110 section 5.5; Envoy CVE-2019-9900). CR and
# LF are also what an obsolete line folding leaves.
_CONTROL: Final = bytes({*range(0x20), 0x7F} - {0x09})

_NOTHING: Final[Mapping[bytes, tuple[bytes, ...]]] = {}


Head = tuple[Mapping[bytes, bytes], Mapping[bytes, bytes], Mapping[bytes, tuple[bytes, ...]]]
"""All headers that arrived; the client's own, without those by which proxies speak and those
about this message alone; and each value of those of them that were repeated."""


class Names:
    """What is to be thought of a header's name; each is judged once and remembered.

    `guarded` are names whose twins are refused: CGI, WSGI and PHP make `X_User` and `X-User`
    one variable (CVE-2025-64484), so a twin survives where the proxy removes the name itself.
    """

    __slots__ = ("_folded", "dropped", "guarded", "known")

    def __init__(self, guarded: Iterable[bytes]) -> None:
        self.guarded = frozenset(guarded)
        self._folded = frozenset(_FOLDED.sub(b"-", name) for name in self.guarded)
        self.known: set[bytes] = set()
        self.dropped: set[bytes] = set()

    def learn(self, names: Mapping[bytes, bytes]) -> Rejected | None:
        """Judge the names that are not known yet."""
        if len(self.known) + len(names) > MAX_REMEMBERED_NAMES:
            self.known.clear()
            self.dropped.clear()
        for name in names.keys() - self.known:
            if len(name) > MAX_NAME_BYTES or not _TOKEN.fullmatch(name):
                return Rejected(400, "a header's name is no token")
            folded = _FOLDED.sub(b"-", name)
            is_twin = folded in self._folded or tells_of_request(folded)
            if is_twin and folded != name and name not in self.guarded:
                return Rejected(400, "a header's name is the twin of a guarded one")
            if is_dropped(name):
                self.dropped.add(name)
            self.known.add(name)
        return None

    def may_be_dropped(self, listed: set[bytes]) -> bool:
        """Tell whether a proxy that obeys `Connection` drops nothing that counts.

        CVE-2025-48865: a client names the header by which the proxy tells of it.
        """
        return not any(name in self.guarded or tells_of_request(name) for name in listed)


def tells_of_request(name: bytes) -> bool:
    """Tell whether proxies speak of a request by this header."""
    return name.startswith(_PROXY_PREFIXES) or name in _PROXY_NAMES


def is_dropped(name: bytes) -> bool:
    """Tell whether a header is never among the client's own: rules cannot read it."""
    return name in _OF_THIS_MESSAGE or tells_of_request(name)


def read_head(
    headers: list[tuple[bytes, bytes]], names: Names, single: frozenset[bytes]
) -> Head | Rejected:
    """Check all headers and part what the proxy says from what the client says."""
    if len(headers) > MAX_HEADERS:
        return Rejected(431, f"more than {MAX_HEADERS} headers")
    sent = dict(headers)
    repeated = _NOTHING
    if len(sent) != len(headers):
        repeated = _repeated(headers)
        if not single.isdisjoint(repeated):
            return Rejected(400, "a header stands twice that may stand once")
        sent.update((name, _joined(name, values)) for name, values in repeated.items())
    text = b"".join(sent.values())
    if len(text) > MAX_VALUE_BYTES:
        return Rejected(431, f"headers of more than {MAX_VALUE_BYTES} bytes")
    if text.translate(None, _CONTROL) != text:
        return Rejected(400, "a header's value has a control byte")
    if not names.known.issuperset(sent) and (refused := names.learn(sent)):
        return refused
    dropped = names.dropped
    if sent.get(CONNECTION) not in _USUAL_CONNECTIONS:
        listed = _listed(sent[CONNECTION])
        if not names.may_be_dropped(listed):
            return Rejected(400, "Connection names a header that must reach us")
        dropped = dropped | listed
    fields = {name: value for name, value in sent.items() if name not in dropped}
    if repeated:
        repeated = {name: values for name, values in repeated.items() if name in fields}
    return sent, fields, repeated


def _repeated(headers: list[tuple[bytes, bytes]]) -> dict[bytes, tuple[bytes, ...]]:
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return {name: tuple(each) for name, each in values.items() if len(each) > 1}


def _joined(name: bytes, values: tuple[bytes, ...]) -> bytes:
    """Join as RFC 9110 section 5.3 says; cookies as RFC 9113 section 8.2.3 does."""
    return (b"; " if name == b"cookie" else b", ").join(values)


def _listed(value: bytes) -> set[bytes]:
    """Return the names that `Connection` makes hop-by-hop (RFC 9110 section 7.6.1)."""
    return {name.strip(b" \t").lower() for name in value.split(b",")}
