"""The page of the operations listener: a request goes in, the decision comes out as a graph.

It is made on the server, without a script. What it shows went through the redaction.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from gatekeeper.forwardauth.config.base import DialectName
from gatekeeper.platform.pages import Pages

if TYPE_CHECKING:
    from gatekeeper.kernel.secret import Secret

COOKIE: Final = "passctrl_operations"
LOGIN_SECONDS: Final = 8 * 3600
_FOLDER: Final = Path(__file__).parent / "pages"
EXAMPLE: Final = """\
GET https://app.example/ HTTP/1.1
Authorization: Bearer …
"""

_WIDTH: Final = 760
_BOX: Final = 56
_GAP: Final = 26


@cache
def _pages() -> Pages:
    return Pages(_FOLDER)


@cache
def style() -> bytes:
    return (_FOLDER / "page.css").read_bytes()


class Logins:
    """Knows who gave the token. A cookie says until when, and cannot be made up."""

    def __init__(self, token: Secret) -> None:
        self._token = token
        self._key = secrets.token_bytes(32)

    def enter(self, given: str) -> str | None:
        """Return a cookie for whoever gives the token."""
        if not hmac.compare_digest(given.encode(), self._token.reveal().encode()):
            return None
        until = str(int(time.monotonic()) + LOGIN_SECONDS)
        return f"{COOKIE}={until}.{self._seal(until)}; HttpOnly; SameSite=Strict; Path=/"

    def knows(self, header: str) -> bool:
        """Tell whether a Cookie header has a cookie of ours that is not past."""
        try:
            found = SimpleCookie(header).get(COOKIE)
        except CookieError:
            return False
        until, _, seal = ("" if found is None else found.value).partition(".")
        good = hmac.compare_digest(seal.encode(), self._seal(until).encode())
        return good and int(until) > time.monotonic()

    def _seal(self, until: str) -> str:
        return blake2b(until.encode(), key=self._key, digest_size=32).hexdigest()


def login(*, wrong: bool = False) -> bytes:
    return _pages().render("login.html", wrong=wrong)


def ask(
    *,
    endpoint: str = "",
    dialect: str = "generic",
    request: str = "",
    problems: Sequence[Mapping[str, str]] = (),
    explained: Mapping[str, Any] | None = None,
) -> bytes:
    return _pages().render(
        "explain.html",
        endpoint=endpoint,
        dialect=dialect,
        dialects=get_args(DialectName),
        request=request or EXAMPLE,
        problems=problems,
        explained=explained,
        graph=None if explained is None else graph(explained),
    )


def graph(explained: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lay the steps out, one below the other, from the request to the answer."""
    nodes = [
        {
            "label": "request",
            "text": f"{explained['endpoint']} · {explained['dialect']}",
            "kind": "end",
        },
        *(
            {
                "label": step["agent"],
                "text": f"{step['subject']}: {step['result']}",
                "kind": _kind(step["result"]),
            }
            for step in explained["steps"]
        ),
        {
            "label": "answer",
            "text": f"{explained['outcome']} · {explained['status']}",
            "kind": _kind(explained["outcome"]),
        },
    ]
    placed = [
        {**node, "y": number * (_BOX + _GAP) + 1, "number": number}
        for number, node in enumerate(nodes)
    ]
    height = len(placed) * (_BOX + _GAP) - _GAP + 2
    return {"nodes": placed, "width": _WIDTH, "height": height, "box": _BOX, "gap": _GAP}


def _kind(result: str) -> str:
    return result if result in ("pass", "fail", "error") else "step"
