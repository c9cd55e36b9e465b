"""The cookies of the pages, and when a request that carries one is believed.

A browser adds a cookie to whatever it is made to send. So a session counts for a page
that is only looked at, and for a call of the API only when the page itself made it: with a
header that no other site's page may add without asking us first (CORS, which we never
allow), and from our own origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fastapi import Request, Response

SESSION: Final = "__Host-gatekeeper"
"""With this prefix a browser takes it from this host alone, Secure, and for all of it. From
http it takes it on loopback only, where Chromium and Firefox hold a connection for safe."""
SIGNING_IN: Final = "__Host-gatekeeper-signing-in"
HEADER: Final = "Gatekeeper-Console"
MAX_COOKIE_CHARS: Final = 512


def origin_of(address: str) -> str:
    """Return the origin of an address (RFC 6454)."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def session_of(request: Request) -> str | None:
    """Return what a browser says its session is; not checked at all."""
    found = request.cookies.get(SESSION)
    return found if found is not None and len(found) <= MAX_COOKIE_CHARS else None


def is_from_page(request: Request, origin: str) -> bool:
    """Tell whether a page of ours made this call."""
    if HEADER not in request.headers:
        return False
    said = request.headers.get("origin")
    return said == origin or (said is None and request.method in {"GET", "HEAD"})


def put(response: Response, name: str, value: str, *, seconds: int) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax"
    )


def drop(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
