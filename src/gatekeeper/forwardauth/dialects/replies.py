"""Answers, put into what proxies can carry.

Allow is always 200 without a body: nginx drops its connection to us for a body it does not read,
and Envoy takes no other status. Whatever is not an allow has a status that none takes for one.
Nothing is to be kept by a cache between us and the proxy. Reasons are never sent.
"""

from __future__ import annotations

import re
from typing import Final

from gatekeeper.forwardauth.model import Answer, Outcome, Reply

LOCATION: Final = "x-passctrl-location"
"""Where a client is to be sent, for proxies that cannot carry a redirect themselves."""

_NO_STORE: Final = (("cache-control", "no-store"),)
_ALLOW: Final = 200
_REDIRECT: Final = 300
_REFUSAL: Final = 400
_SERVER_ERROR: Final = 500
_ERROR: Final = Reply(_SERVER_ERROR, _NO_STORE, b"")
_BEARABLE: Final = frozenset({401, 403})
"""What `auth_request` carries besides 2xx; the client sees 500 for everything else."""

# A character goes out as one byte (ISO 8859-1), as headers came in: what is copied stays as it
# was. Others, and control characters, have no place in a header (CVE-2023-27493).
_UNFIT: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def write_whole(answer: Answer) -> Reply:
    """Answer a proxy that hands status, headers and body of a refusal on to the client."""
    if answer.outcome is Outcome.PASS:
        return _write(_ALLOW, answer.headers)
    if answer.location is None:
        status = answer.status if answer.status >= _REFUSAL else _ERROR.status
        return _write(status, answer.headers, answer.body)
    status = answer.status if answer.status >= _REDIRECT else _ERROR.status
    return _write(status, (*answer.headers, ("location", answer.location)), answer.body)


def write_changes(answer: Answer) -> Reply:
    """Answer a proxy that makes all headers of an allow the request's: these and no others."""
    if answer.outcome is Outcome.PASS:
        return _write(_ALLOW, answer.headers, kept=())
    return write_whole(answer)


def write_bearable(answer: Answer) -> Reply:
    """Answer a proxy that carries 401 and 403 alone: nginx with `auth_request`.

    A redirect becomes 401 with the place in a header, which the proxy's configuration turns into
    a redirect. Bodies are left out, as they would not be read.
    """
    if answer.outcome is Outcome.PASS:
        return _write(_ALLOW, answer.headers)
    if answer.location is not None:
        return _write(401, (*answer.headers, (LOCATION, answer.location)))
    if answer.status >= _SERVER_ERROR or answer.status in _BEARABLE:
        return _write(answer.status, answer.headers)
    return _write(403, answer.headers)


def _write(
    status: int,
    headers: tuple[tuple[str, str], ...],
    body: bytes = b"",
    kept: tuple[tuple[str, str], ...] = _NO_STORE,
) -> Reply:
    for _, value in headers:
        if not (value.isascii() and value.isprintable()) and _UNFIT.search(value):
            return _ERROR
    return Reply(status, headers + kept, body)
