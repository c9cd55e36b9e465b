"""Takes the browser's way back to us: one address on loopback (RFC 8252 section 7.3)."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATH: Final = "/callback"
READ_SECONDS: Final = 5.0
"""Whoever connects and says nothing is not waited for longer."""
DONE: Final = "You can close this page and go back to the terminal."
NOT_OURS: Final = "This is not the login that gk waits for."


class Loopback:
    """Listens on a free port of 127.0.0.1 until one answer comes that is ours.

    Anybody on this machine, and any page in the browser, can knock. What `is_ours`
    turns down is told so, and the wait goes on.
    """

    def __init__(self, is_ours: Callable[[Mapping[str, str]], bool]) -> None:
        self._is_ours = is_ours
        self._answer: Mapping[str, str] | None = None
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def wait(self, seconds: float) -> Mapping[str, str] | None:
        """Return the parameters of the answer, or None after so many seconds."""
        deadline = time.monotonic() + seconds
        while self._answer is None and (left := deadline - time.monotonic()) > 0:
            self._server.timeout = left
            self._server.handle_request()
        return self._answer

    def _take(self, target: str) -> tuple[int, str]:
        parts = urlsplit(target)
        given = dict(parse_qsl(parts.query))
        if parts.path != PATH or not self._is_ours(given):
            return 400, NOT_OURS
        self._answer = given
        return 200, DONE

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            timeout = READ_SECONDS

            def do_GET(self) -> None:  # named by the library
                status, text = take(self.path)
                body = (
                    '<!doctype html><html lang="en"><meta charset="utf-8">'
                    '<link rel="icon" href="data:,">'
                    f"<title>Gatekeeper</title><p>{text}</p>"
                ).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", "default-src 'none'; img-src data:")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:  # noqa: ANN401  # as above
                """Say nothing: the address holds a code."""

        return Handler
