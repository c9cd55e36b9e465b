"""The method of the original request."""

from __future__ import annotations

import re
from typing import Final

from gatekeeper.forwardauth.model import Rejected

MAX_METHOD_CHARS: Final = 32

STANDARD: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
"""RFC 9110 section 9 and RFC 5789."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def read_method(sent: str) -> str | Rejected:
    """Return the method as it was sent.

    Methods are case-sensitive (RFC 9110 section 9.1), but some applications take `post` for
    `POST`: such a spelling is refused. X-HTTP-Method-Override and the like change nothing here;
    they are headers that rules may read.
    """
    if sent in STANDARD:
        return sent
    if len(sent) > MAX_METHOD_CHARS or not _TOKEN.fullmatch(sent):
        return Rejected(400, "the method is no token")
    if sent.upper() in STANDARD:
        return Rejected(400, "a standard method in another case")
    return sent
