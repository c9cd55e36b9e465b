"""The operations listener: health, metrics and `/explain`, where no client of a proxy comes.

`/healthz`, `/readyz` and `/metrics` are for whoever reaches it; the rest needs the token, and
without one it is not there. ASGI by hand: five paths are not worth a framework in each worker.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qs

import structlog

from gatekeeper.forwardauth.web import page
from gatekeeper.platform.processes.operating import Receive, Scope, Send, serve_watchers

if TYPE_CHECKING:
    import socket

    from gatekeeper.forwardauth.web.gathering import Gathering
    from gatekeeper.kernel.secret import Secret

log = structlog.get_logger("gatekeeper.forwardauth.operations")

MAX_BODY_BYTES: Final = 262_144
REQUEST_SECONDS: Final = 45.0
"""From the head of a request to the end of its answer."""

_JSON: Final = "application/json"
_HTML: Final = "text/html; charset=utf-8"
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
_SAFE: Final = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        (
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
            " frame-ancestors 'none'"
        ),
    ),
)


class Said(NamedTuple):
    """An answer."""

    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class _Refused(Exception):  # noqa: N818  # no error: an answer
    def __init__(self, said: Said) -> None:
        self.said = said


def _json(status: int, value: object, *headers: tuple[str, str]) -> Said:
    return Said(status, _JSON, json.dumps(value).encode(), headers)


_NOT_FOUND: Final = _json(404, {"error": "not found"})
_NO_WORKER: Final = _json(503, {"error": "no worker answers"})


class Operations:
    """The ASGI application."""

    def __init__(self, workers: Gathering, token: Secret | None) -> None:
        self._workers = workers
        self._token = token
        self._logins = None if token is None else page.Logins(token)
        self._routes: dict[tuple[str, str], Callable[[_Request], Awaitable[Said]]] = {
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._readiness,
            ("GET", "/metrics"): self._metrics,
        }
        if token is not None:
            self._routes |= {
                ("GET", "/explain"): self._recent,
                ("POST", "/explain"): self._explain,
                ("GET", "/"): self._page,
                ("POST", "/"): self._explained_page,
                ("POST", "/login"): self._login,
                ("GET", "/page.css"): self._style,
            }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["raw_path"].partition(b"?")[0].decode("latin-1")
        route = self._routes.get((method, path))
        try:
            if route is None:
                said = self._no_route(path)
            else:
                async with asyncio.timeout(REQUEST_SECONDS):
                    said = await route(_Request(scope, receive))
        except _Refused as refused:
            said = refused.said
        except TimeoutError:
            said = _NO_WORKER
        except Exception as error:  # noqa: BLE001  # of it the type alone: its text may be anything
            log.error("operations request failed", error=type(error).__name__, path=path)  # noqa: TRY400
            said = _json(500, {"error": "a defect"})
        await _send(said, send)

    def _no_route(self, path: str) -> Said:
        allowed = [method for method, known in self._routes if known == path]
        if not allowed:
            return _NOT_FOUND
        return _json(405, {"error": "method not allowed"}, ("allow", ", ".join(allowed)))

    # For anybody who reaches the listener.

    async def _health(self, _request: _Request) -> Said:
        return _json(200, {"status": "ok"})

    async def _readiness(self, _request: _Request) -> Said:
        """A shared cache that is not to be had only slows: it is no reason."""
        reasons = await self._workers.unready()
        if reasons:
            return _json(503, {"status": "unready", "reasons": reasons})
        return _json(200, {"status": "ready"})

    async def _metrics(self, _request: _Request) -> Said:
        return Said(200, _METRICS, await self._workers.metrics())

    # With the token.

    async def _recent(self, request: _Request) -> Said:
        self._authorize(request)
        wanted = request.query("id")
        if not wanted:
            return _json(400, {"error": "expected ?id=, a correlation id"})
        found = await self._workers.recent(wanted)
        if found is None:
            return _json(404, {"error": "no recent decision has this correlation id"})
        return _json(200, found)

    async def _explain(self, request: _Request) -> Said:
        self._authorize(request)
        body = await request.body()
        if request.header("content-type").partition(";")[0].strip() == _JSON:
            try:
                question = json.loads(body)
            except (ValueError, RecursionError):
                return _json(400, {"error": "expected JSON"})
        else:
            question = {
                "endpoint": request.query("endpoint"),
                "request": body.decode("utf-8", "replace"),
            }
            if request.query("dialect"):
                question["dialect"] = request.query("dialect")
        said = await self._workers.explain(question)
        if said is None:
            return _NO_WORKER
        if "problems" in said:
            return _json(400, {"error": "the question cannot be read", **said})
        return _json(200, said["explained"])

    def _authorize(self, request: _Request) -> None:
        assert self._token is not None  # noqa: S101  # else there is no route
        scheme, _, given = request.header("authorization").partition(" ")
        expected = self._token.reveal().encode()
        good = hmac.compare_digest(given.strip().encode("latin-1", "replace"), expected)
        if scheme.lower() != "bearer" or not good:
            challenge = ("www-authenticate", 'Bearer realm="passctrl operations"')
            raise _Refused(_json(401, {"error": "expected the operations token"}, challenge))

    # The page, with the token in a form once, and a cookie from then on.

    async def _style(self, _request: _Request) -> Said:
        return Said(200, "text/css; charset=utf-8", page.style())

    async def _page(self, request: _Request) -> Said:
        if not self._is_in(request):
            return Said(200, _HTML, page.login())
        return Said(200, _HTML, page.ask(endpoint=request.query("endpoint")))

    async def _login(self, request: _Request) -> Said:
        assert self._logins is not None  # noqa: S101  # else there is no route
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        cookie = self._logins.enter(form.get("token", [""])[0])
        if cookie is None:
            return Said(401, _HTML, page.login(wrong=True))
        return Said(303, _HTML, b"", (("location", "/"), ("set-cookie", cookie)))

    async def _explained_page(self, request: _Request) -> Said:
        if not self._is_in(request):
            return Said(401, _HTML, page.login())
        form = parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True)
        asked = {name: form.get(name, [""])[0] for name in ("endpoint", "dialect", "request")}
        question = {**asked, "request": asked["request"].replace("\r\n", "\n").lstrip("\n")}
        said = await self._workers.explain(question)
        problems = [{"key": "", "message": "no worker answers"}] if said is None else []
        told = said or {}
        return Said(
            200,
            _HTML,
            page.ask(
                **asked,
                problems=problems or told.get("problems", []),
                explained=told.get("explained"),
            ),
        )

    def _is_in(self, request: _Request) -> bool:
        assert self._logins is not None  # noqa: S101  # else there is no route
        return self._logins.knows(request.header("cookie"))


class _Request:
    """What a route reads of a request."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive

    def header(self, name: str) -> str:
        wanted = name.encode()
        headers: list[tuple[bytes, bytes]] = self._scope["headers"]
        values = [value for field, value in headers if field == wanted]
        return values[0].decode("latin-1") if values else ""

    def query(self, name: str) -> str:
        query: bytes = self._scope["query_string"]
        return parse_qs(query.decode("latin-1")).get(name, [""])[0]

    async def body(self) -> bytes:
        data = bytearray()
        while True:
            message = await self._receive()
            data += message.get("body", b"")
            if len(data) > MAX_BODY_BYTES:
                raise _Refused(_json(413, {"error": f"at most {MAX_BODY_BYTES} bytes"}))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return bytes(data)


async def _send(said: Said, send: Send) -> None:
    fields = (
        ("content-type", said.kind),
        ("content-length", str(len(said.body))),
        *_SAFE,
        *said.headers,
    )
    headers = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": said.status, "headers": headers})
    await send({"type": "http.response.body", "body": said.body})


async def serve_operations(
    listening: socket.socket, workers: Gathering, token: Secret | None
) -> None:
    """Serve until cancelled."""
    await serve_watchers(listening, Operations(workers, token))
