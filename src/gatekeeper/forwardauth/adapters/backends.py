"""Backends over HTTP: retries, pages and JSON, all within one deadline and one number of bytes.

A body that says it is JSON and is not: the status, the headers and the text are kept, so that
conditions can judge a refusal in another format (an HTML page with a 502). Where the status is an
accepted one there is an `error` too, "not JSON": the answer a rule relies on is not there.
"""

from __future__ import annotations

import asyncio
import json
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from gatekeeper.forwardauth.model import BackendPage, BackendResponse
from gatekeeper.kernel.backoff import Backoff
from gatekeeper.platform.outbound.client import Answer, NoAnswer
from gatekeeper.platform.outbound.links import next_page, origin, parse_url

if TYPE_CHECKING:
    from gatekeeper.forwardauth.model import BackendRequest
    from gatekeeper.kernel.clock import Clock
    from gatekeeper.kernel.random import Random
    from gatekeeper.platform.outbound.client import OutboundClient

MAX_JSON_DEPTH: Final = 64
BACKOFF: Final = Backoff(first=0.1, most=2.0)
"""Seconds between tries; the deadline of a decision is short."""
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""May be sent again though the first may have arrived (RFC 9110 section 9.2.2)."""
OVERLOADED: Final = frozenset({502, 503, 504})
"""What a gateway says when another try may go better."""
_JSON: Final = re.compile(r"application/(?:json|[a-z0-9!#$&^_.-]+\+json)\s*(?:;|$)", re.IGNORECASE)


class HttpBackends:
    """The port `Backends`, over one shared pool."""

    def __init__(
        self,
        *,
        client: OutboundClient,
        max_response_bytes: int,
        clock: Clock,
        random: Random,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._client = client
        self._max_response_bytes = max_response_bytes
        self._clock = clock
        self._random = random
        self._backoff = backoff

    async def call(self, request: BackendRequest) -> BackendResponse:
        """Call a backend. Whatever goes wrong is said in `error`."""
        ends = asyncio.get_running_loop().time() + request.timeout
        try:
            async with asyncio.timeout_at(ends):
                return await self._pages(request, ends=ends)
        except TimeoutError:
            return _failed(request.url, f"no answer within {request.timeout:g} s")

    async def _pages(self, request: BackendRequest, *, ends: float) -> BackendResponse:
        url, left = request.url, self._max_response_bytes
        pages: list[BackendPage] = []
        seen: set[str] = set()
        while True:
            answer = await self._try(request, url, left, ends=ends)
            if isinstance(answer, NoAnswer):
                return _failed(url, answer.reason)
            left -= len(answer.body)
            page, readable = _page(url, answer)
            pages.append(page)
            if not readable and page.status in request.accepted:
                return _answered(pages, error=_told(url, "its body is not JSON"))
            seen.add(url)
            following = _following(request, page) if len(pages) < request.max_pages else None
            if following is None or following in seen:
                return _answered(pages)
            if not _same_origin(url, following):
                return _failed(url, "its next page is on another server")
            url = following

    async def _try(
        self, request: BackendRequest, url: str, left: int, *, ends: float
    ) -> Answer | NoAnswer:
        """Send one request until it is answered, tries are used up, or time is."""
        failures = 0
        while True:
            answer = await self._client.send(
                request.method, url, headers=request.headers, body=request.body, max_bytes=left
            )
            failures += 1
            if failures > request.retries or not _worth_another(request, answer):
                return answer
            pause = max(self._backoff.pause(failures, self._random), self._wished(answer))
            if asyncio.get_running_loop().time() + pause >= ends:
                return answer
            await asyncio.sleep(pause)

    def _wished(self, answer: Answer | NoAnswer) -> float:
        """Return the seconds a server asks us to wait (`Retry-After`, RFC 9110 section 10.2.3)."""
        text = answer.headers.get("retry-after", "") if isinstance(answer, Answer) else ""
        if text.isascii() and text.isdigit():
            return float(text)
        try:
            return (parsedate_to_datetime(text) - self._clock.now()).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return 0.0


def _worth_another(request: BackendRequest, answer: Answer | NoAnswer) -> bool:
    repeatable = request.method in IDEMPOTENT
    if isinstance(answer, NoAnswer):
        return answer.passing and (repeatable or not answer.sent)
    return repeatable and answer.status in OVERLOADED - request.accepted


def _following(request: BackendRequest, page: BackendPage) -> str | None:
    link, url = page.headers.get("link"), parse_url(page.url)
    if link is None or url is None or page.status not in request.accepted:
        return None
    return next_page(url, link)


def _same_origin(one: str, other: str) -> bool:
    """Tell whether a credential for one URL may be sent to the other."""
    here, there = parse_url(one), parse_url(other)
    return here is not None and there is not None and origin(here) == origin(there)


def _answered(pages: list[BackendPage], *, error: str | None = None) -> BackendResponse:
    last = pages[-1]
    return BackendResponse(
        status=last.status,
        headers=last.headers,
        body=last.body,
        body_text=last.body_text,
        pages=tuple(pages),
        error=error,
    )


def _failed(url: str, reason: str) -> BackendResponse:
    return BackendResponse(error=_told(url, reason))


def _told(url: str, reason: str) -> str:
    """Name the server and not the URL, the rest of which may hold what a client sent."""
    parsed = parse_url(url)
    if parsed is None:
        return reason
    scheme, host, port = origin(parsed)
    return f"{scheme}://{host}:{port}: {reason}"


def _page(url: str, answer: Answer) -> tuple[BackendPage, bool]:
    """Read a page, and tell whether its body is what it says."""
    document = _Document(None, readable=True)
    if answer.body and _JSON.match(answer.headers.get("content-type", "")):
        document = _parsed(answer.body)
    page = BackendPage(
        url=url,
        status=answer.status,
        headers=answer.headers,
        body=document.value,
        body_text=answer.body.decode("utf-8", "replace"),
    )
    return page, document.readable


class _Document(NamedTuple):
    value: Any
    readable: bool


def _parsed(body: bytes) -> _Document:
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return _Document(None, readable=False)
    # Most bodies have too few brackets to be too deep.
    shallow = body.count(b"[") + body.count(b"{") <= MAX_JSON_DEPTH or _is_shallow(value)
    return _Document(value if shallow else None, readable=shallow)


def _is_shallow(value: object) -> bool:
    """Tell whether a value nests within bounds: what reads it later may recurse."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        containers = [one for one in level if isinstance(one, dict | list)]
        if not containers:
            return True
        level = [
            inner
            for outer in containers
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return False


def _no_number(text: str) -> NoReturn:
    """Refuse NaN and Infinity, which are no JSON (RFC 8259 section 6)."""
    raise ValueError(text)
