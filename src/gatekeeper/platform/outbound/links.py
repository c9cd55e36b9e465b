"""Where the next page of an answer is (RFC 8288), and whether it is the same server's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Iterator

_TARGET: Final = re.compile(r"[\s,]*<([^<>]*)>")
_PARAMETER: Final = re.compile(
    r'\s*;\s*([^\s=;,"<>]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"<>]*)))?'
)
_URL: Final = re.compile(r"[!-\[\]-~]+")
"""Visible ASCII without the backslash, which some take for a slash."""
MAX_URL_CHARS: Final = 8_000
"""What every server takes (RFC 9110 section 4.1)."""


def parse_url(text: str) -> URL | None:
    """Read a whole, escaped URL that can be called; None when it is none."""
    if len(text) > MAX_URL_CHARS or not _URL.fullmatch(text):
        return None
    try:
        url = URL(text, encoded=True)
        fits = url.scheme in {"http", "https"} and url.raw_host and url.port
    except ValueError:
        return None
    # A credential in a URL would be sent without its rule having said so.
    return url if fits and url.raw_user is None and url.raw_password is None else None


def origin(url: URL) -> tuple[str, str, int]:
    """Return what makes two URLs the same server's (RFC 6454 section 4)."""
    return url.scheme, (url.raw_host or "").lower(), url.port or 0


def next_page(url: URL, link: str) -> str | None:
    """Return the URL of the page after this one, by its `Link` header; None: it is the last."""
    for target, parameters in _links(link):
        # Only the first `rel` counts (section 3.3), and only of links from here (section 3.2).
        relations = parameters.get("rel", "").lower().split()
        if "next" in relations and "anchor" not in parameters:
            return _joined(url, target)
    return None


def _joined(url: URL, target: str) -> str:
    try:
        return str(url.join(URL(target, encoded=True)).with_fragment(None))
    except ValueError:
        return target


def _links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Read links as long as they are well formed."""
    at = 0
    while (target := _TARGET.match(header, at)) is not None:
        at = target.end()
        parameters: dict[str, str] = {}
        while (found := _PARAMETER.match(header, at)) is not None:
            at = found.end()
            quoted, plain = found[2], found[3]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain or ""
            parameters.setdefault(found[1].lower(), value)
        yield target[1], parameters
