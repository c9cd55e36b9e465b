"""Backends over real sockets: what is sent, what is taken, and everything that can go wrong."""

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from factories.certificates import self_signed
from fakes.backend_server import CUT, HANG, BackendServer, Scripted, Then, reply
from gatekeeper.forwardauth.adapters.backends import MAX_JSON_DEPTH, HttpBackends
from gatekeeper.forwardauth.model import BackendRequest, BackendResponse
from gatekeeper.kernel.backoff import Backoff
from gatekeeper.platform.outbound.client import MAX_HEADERS, MAX_REQUEST_BODY_BYTES, OutboundClient
from gatekeeper.platform.outbound.guard import AddressGuard
from gatekeeper.platform.random import SystemRandom

MAX_BYTES = 10_000
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
SOON = Backoff(first=0.05, most=0.05)
NEVER_SECONDS = 60.0
"""What no test waits for when all is well."""


class Clock:
    def now(self) -> datetime:
        return NOW


class Names(AbstractResolver):
    """A name server whose answers a test writes; each question takes the next of them."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not addresses:
            raise OSError(None, "no such name")
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=0, flags=0)
            for one in addresses
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
async def backend() -> AsyncIterator[BackendServer]:
    async with BackendServer.serving() as serving:
        yield serving


@pytest.fixture
async def client() -> AsyncIterator[OutboundClient]:
    made = OutboundClient(guard=AddressGuard(), max_connections=10)
    yield made
    await made.close()


@pytest.fixture
def backends(client: OutboundClient) -> HttpBackends:
    return over(client)


def over(client: OutboundClient) -> HttpBackends:
    return HttpBackends(
        client=client,
        max_response_bytes=MAX_BYTES,
        clock=Clock(),
        random=SystemRandom(),
        backoff=SOON,
    )


def asking(url: str, **more: Any) -> BackendRequest:
    values: dict[str, Any] = {"method": "GET", "url": url, "timeout": NEVER_SECONDS} | more
    return BackendRequest(**values)


async def test_a_call_sends_what_it_was_given_and_nothing_else(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/a%2Fb?q=%20x", reply(201, {"n": 1, "f": 1.5}, x_role="admin"))

    found = await backends.call(
        asking(
            backend.url("/a%2Fb?q=%20x"),
            method="POST",
            headers=(("x-request-id", "r1"), ("cookie", "a=b"), ("x-name", "Žofie")),
            body=b"{}",
        )
    )

    assert (found.status, found.body, found.error) == (201, {"n": 1, "f": 1.5}, None)
    assert found.headers["x-role"] == "admin"
    assert found.body_text == '{"n": 1, "f": 1.5}'
    (page,) = found.pages
    assert (page.status, page.body, page.url) == (201, found.body, backend.url("/a%2Fb?q=%20x"))
    (received,) = backend.received
    assert (received.method, received.target, received.body) == ("POST", "/a%2Fb?q=%20x", b"{}")
    assert dict(received.headers) == {
        "host": f"127.0.0.1:{backend.port}",
        "x-request-id": "r1",
        "cookie": "a=b",
        "x-name": "Žofie".encode().decode("latin-1"),
        "content-length": "2",
    }


async def test_calls_share_connections_and_keep_no_cookies(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/", reply(200, b"x", set_cookie="session=1; Path=/"))

    for _ in range(5):
        assert (await backends.call(asking(backend.url()))).status == 200

    assert backend.connections == 1
    assert not any("cookie" in received.headers for received in backend.received)


async def test_a_redirect_is_an_answer_and_not_followed(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/", reply(302, location="/elsewhere"))

    found = await backends.call(asking(backend.url()))

    assert (found.status, found.headers["location"]) == (302, "/elsewhere")
    assert len(backend.received) == 1


async def test_no_proxy_of_the_environment_is_asked(
    backend: BackendServer, backends: HttpBackends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    backend.answers("/", reply())

    assert (await backends.call(asking(backend.url()))).status == 200


def error_of(found: BackendResponse) -> str:
    assert (found.status, found.body, found.pages) == (0, None, ())
    assert found.error is not None
    return found.error


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"headers": (("x-a", "1\r\nx-b: 2"),)}, "cannot be sent"),
        ({"headers": (("x-a", "1\n"),)}, "cannot be sent"),
        ({"headers": (("x-a", "\x00"),)}, "cannot be sent"),
        ({"headers": (("x a", "1"),)}, "none that can be set"),
        ({"headers": (("x-a\r\n", "1"),)}, "none that can be set"),
        ({"headers": (("content-length", "5"),)}, "none that can be set"),
        ({"headers": (("Transfer-Encoding", "chunked"),)}, "none that can be set"),
        ({"headers": (("x-a", "\ud800"),)}, "cannot be sent"),
        ({"method": "GET /x HTTP/1.1\r\n"}, "method"),
        ({"method": "CONNECT"}, "method"),
        ({"body": b"x" * (MAX_REQUEST_BODY_BYTES + 1)}, "body has more"),
    ],
)
async def test_a_request_that_could_become_two_is_not_sent(
    backend: BackendServer, backends: HttpBackends, changes: dict[str, Any], why: str
) -> None:
    found = await backends.call(asking(backend.url(), retries=5, **changes))

    assert why in error_of(found)
    assert backend.received == []


async def test_an_error_names_the_server_and_no_secret(backends: HttpBackends) -> None:
    url = "http://127.0.0.1:9/path-secret?token=query-secret"

    found = await backends.call(asking(url, headers=(("authorization", "Bearer header-secret"),)))

    assert error_of(found) == "http://127.0.0.1:9: it cannot be connected to"


async def test_a_url_that_is_none_is_an_error_without_it(backends: HttpBackends) -> None:
    assert "secret" not in error_of(await backends.call(asking("http://user:secret@x/")))


@pytest.mark.parametrize(
    ("scripted", "why"),
    [
        (CUT, "connection broke"),
        (Scripted(b"nonsense\r\n\r\n", Then.CLOSE), "not HTTP"),
        (Scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", Then.CLOSE), "broke"),
        (reply(body=b"x" * (MAX_BYTES + 1)), "body has more than"),
        (reply(body=gzip.compress(b"x" * 10_000_000), content_encoding="gzip"), "body has more"),
        (reply(body=zlib.compress(b"x" * 10_000_000), content_encoding="deflate"), "body has more"),
        (reply(body=b"no gzip", content_encoding="gzip"), "broke"),
        (reply(x_long="x" * 10_000), "not HTTP within our limits"),
        (
            reply(200, b"", **{f"x_{n}": "x" for n in range(MAX_HEADERS + 1)}),
            "not HTTP within our limits",
        ),
        (reply(200, b"", **{f"x_{n}": "x" * 7_000 for n in range(20)}), "headers have more"),
    ],
)
async def test_an_answer_beyond_bounds_is_an_error_and_never_cut_short(
    backend: BackendServer, backends: HttpBackends, scripted: Scripted, why: str
) -> None:
    backend.answers("/", scripted)

    assert why in error_of(await backends.call(asking(backend.url())))


async def test_an_answer_at_its_bound_is_whole(
    backend: BackendServer, backends: HttpBackends
) -> None:
    packed = gzip.compress(b"x" * MAX_BYTES)
    backend.answers("/", reply(body=packed, content_encoding="gzip"))

    assert (await backends.call(asking(backend.url()))).body_text == "x" * MAX_BYTES


async def test_a_backend_that_says_nothing_is_given_up_at_the_deadline(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/", HANG)

    found = await backends.call(asking(backend.url(), timeout=0.2, retries=5))

    assert "no answer within 0.2 s" in error_of(found)
    assert len(backend.received) == 1


async def test_a_client_that_is_closed_says_so(
    backend: BackendServer, backends: HttpBackends, client: OutboundClient
) -> None:
    await client.close()

    assert "stopping" in error_of(await backends.call(asking(backend.url())))


async def test_a_backend_that_cannot_prove_who_it_is_is_told_nothing(
    backends: HttpBackends, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    async with BackendServer.serving(context) as untrusted:
        url = untrusted.url().replace("http:", "https:")
        found = await backends.call(asking(url, retries=3))

    assert "certificate is not trusted" in error_of(found)
    assert untrusted.received == []


DEEP = b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH


@pytest.mark.parametrize(
    ("media", "body", "value"),
    [
        ("application/json", b'{"a": [1, 2.5, "x", null]}', {"a": [1, 2.5, "x", None]}),
        ("application/problem+json; charset=utf-8", b"[]", []),
        ("APPLICATION/JSON", b"\xef\xbb\xbf7", 7),
        ("application/json", DEEP + b" ", ...),
        ("application/json", b'"' + b"[" * 100 + b'"', "[" * 100),
        ("application/json", b"", None),
        ("text/plain", b"[]", None),
        ("application/jsonlines", b"[]", None),
        ("text/json+html", b"[]", None),
    ],
)
async def test_a_body_is_parsed_when_it_says_it_is_json(
    backend: BackendServer, backends: HttpBackends, media: str, body: bytes, value: Any
) -> None:
    backend.answers("/", reply(body=body, content_type=media))

    found = await backends.call(asking(backend.url()))

    assert found.error is None
    assert value is ... or found.body == value
    assert found.body_text == body.decode()


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{", b"NaN", b'{"a": Infinity}', b"[" + DEEP + b"]", b"[" * 100_000, b'"\xff"'],
)
async def test_a_body_that_is_not_the_json_it_says_keeps_its_status(
    backend: BackendServer, backends: HttpBackends, body: bytes
) -> None:
    scripted = (
        reply(status, body[:MAX_BYTES], content_type="application/json") for status in (502, 200)
    )
    backend.answers("/", *scripted)

    refused = await backends.call(asking(backend.url()))
    accepted = await backends.call(asking(backend.url()))

    assert (refused.status, refused.body, refused.error) == (502, None, None)
    assert (accepted.status, accepted.body) == (200, None)
    assert accepted.error == f"http://127.0.0.1:{backend.port}: its body is not JSON"
    assert refused.body_text == accepted.body_text == body[:MAX_BYTES].decode("utf-8", "replace")


async def test_text_and_headers_in_another_encoding_are_tolerated(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/", reply(body=b"caf\xe9", x_name="caf\udce9"))

    found = await backends.call(asking(backend.url()))

    assert (found.body_text, found.headers["x-name"]) == ("caf\ufffd", "caf\ufffd")


# Trying again


@pytest.mark.parametrize("failure", [reply(502), reply(503), reply(504), CUT])
async def test_an_idempotent_call_is_tried_again(
    backend: BackendServer, backends: HttpBackends, failure: Scripted
) -> None:
    backend.answers("/", failure, failure, reply(200))

    assert (await backends.call(asking(backend.url(), retries=2))).status == 200
    assert len(backend.received) == 3


async def test_tries_are_counted(backend: BackendServer, backends: HttpBackends) -> None:
    backend.answers("/", reply(503))

    assert (await backends.call(asking(backend.url(), retries=2))).status == 503
    assert len(backend.received) == 3


@pytest.mark.parametrize(
    ("more", "failure"),
    [
        ({"method": "POST", "retries": 5}, reply(503)),
        ({"method": "POST", "retries": 5}, CUT),
        ({"method": "PATCH", "retries": 5}, reply(502)),
        ({"retries": 5}, reply(500)),
        ({"retries": 5}, reply(429)),
        ({"retries": 5, "accepted": frozenset({503})}, reply(503)),
        ({"retries": 5}, reply(body=b"x" * (MAX_BYTES + 1))),
        ({"retries": 0}, reply(503)),
    ],
)
async def test_what_another_try_may_double_or_cannot_mend_is_tried_once(
    backend: BackendServer, backends: HttpBackends, more: dict[str, Any], failure: Scripted
) -> None:
    backend.answers("/", failure, reply(200))

    found = await backends.call(asking(backend.url(), **more))

    assert found.status != 200
    assert len(backend.received) == 1


async def test_a_post_is_tried_again_when_nothing_was_sent(backend: BackendServer) -> None:
    names = Names([], ["127.0.0.1"])
    client = OutboundClient(guard=AddressGuard(), max_connections=1, resolver=names)
    backend.answers("/", reply(200))
    try:
        found = await over(client).call(
            asking(backend.url(host="localhost"), method="POST", retries=1)
        )
    finally:
        await client.close()

    assert found.status == 200
    assert names.asked == ["localhost"] * 2


@pytest.mark.parametrize("wish", ["3600", "Mon, 01 Jun 2026 13:00:00 GMT"])
async def test_a_wait_that_ends_after_the_deadline_is_not_begun(
    backend: BackendServer, backends: HttpBackends, wish: str
) -> None:
    backend.answers("/", reply(503, retry_after=wish), reply(200))

    assert (await backends.call(asking(backend.url(), retries=1))).status == 503


@pytest.mark.parametrize(
    "wish",
    [
        "0",
        "Mon, 01 Jun 2026 11:00:00 GMT",
        "soon",
        "-5",
        "1e9",
        "",
        f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT",
    ],
)
async def test_a_wait_that_is_none_is_the_usual_pause(
    backend: BackendServer, backends: HttpBackends, wish: str
) -> None:
    backend.answers("/", reply(503, retry_after=wish), reply(200))

    assert (await backends.call(asking(backend.url(), retries=1))).status == 200


async def test_a_server_that_asks_for_a_second_is_given_it(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/", reply(503, retry_after="1"), reply(200))
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert (await backends.call(asking(backend.url(), retries=1))).status == 200
    assert loop.time() - began >= 1.0


# Pages


async def test_pages_are_followed_with_the_same_headers(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/p?n=1", reply(200, [1], link='</p?n=2>; rel="next"'))
    backend.answers("/p?n=2", reply(200, [2], link=f"<{backend.url('/p?n=3')}>; rel=next"))
    backend.answers("/p?n=3", reply(200, [3]))

    found = await backends.call(
        asking(backend.url("/p?n=1"), max_pages=9, headers=(("authorization", "Bearer t"),))
    )

    assert [page.body for page in found.pages] == [[1], [2], [3]]
    assert [page.url for page in found.pages] == [backend.url(f"/p?n={n}") for n in (1, 2, 3)]
    assert (found.body, found.error) == ([3], None)
    assert {received.headers["authorization"] for received in backend.received} == {"Bearer t"}


@pytest.mark.parametrize(("most", "pages"), [(1, 1), (2, 2), (9, 3)])
async def test_pages_end_at_their_number_and_at_one_seen_before(
    backend: BackendServer, backends: HttpBackends, most: int, pages: int
) -> None:
    for here, there in ((1, 2), (2, 3), (3, 1)):
        backend.answers(f"/{here}", reply(200, [here], link=f'</{there}>; rel="next"'))

    found = await backends.call(asking(backend.url("/1"), max_pages=most))

    assert len(found.pages) == len(backend.received) == pages
    assert found.error is None


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://localhost:{port}/2",
        "https://127.0.0.1:{port}/2",
        "//[::1]:{port}/2",
        "http://127.0.0.1:1/",
        "http://x@127.0.0.1:{port}/2",
    ],
)
async def test_a_page_on_another_server_is_an_error_and_never_asked_for(
    backend: BackendServer, backends: HttpBackends, elsewhere: str
) -> None:
    link = f'<{elsewhere.format(port=backend.port)}>; rel="next"'
    backend.answers("/1", reply(200, [1], link=link))

    found = await backends.call(asking(backend.url("/1"), max_pages=2))

    assert "on another server" in error_of(found)
    assert len(backend.received) == 1


async def test_all_pages_together_have_one_bound(
    backend: BackendServer, backends: HttpBackends
) -> None:
    half = b"x" * (MAX_BYTES // 2 + 1)
    backend.answers("/1", reply(200, half, link='</2>; rel="next"'))
    backend.answers("/2", reply(200, half))

    assert "more than" in error_of(await backends.call(asking(backend.url("/1"), max_pages=2)))


async def test_a_page_that_is_not_accepted_is_the_last(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/1", reply(200, [1], link='</2>; rel="next"'))
    backend.answers("/2", reply(403, {"why": "no"}, link='</3>; rel="next"'))

    found = await backends.call(asking(backend.url("/1"), max_pages=9))

    assert (found.status, found.body, len(found.pages)) == (403, {"why": "no"}, 2)


async def test_pages_and_tries_share_the_deadline(
    backend: BackendServer, backends: HttpBackends
) -> None:
    backend.answers("/1", reply(503), reply(200, [1], link='</2>; rel="next"'))
    backend.answers("/2", HANG)

    found = await backends.call(asking(backend.url("/1"), max_pages=2, retries=1, timeout=0.3))

    assert "no answer within" in error_of(found)


# Addresses


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "0.0.0.0",  # noqa: S104  # refused
        "[::]",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "127.1",
        "2130706433",
        "0x7f.1",
    ],
)
async def test_an_address_in_the_url_is_judged(
    backend: BackendServer, backends: HttpBackends, host: str
) -> None:
    backend.answers("/", reply(200))

    found = await backends.call(asking(backend.url(host=host), timeout=5.0))

    assert error_of(found)
    assert "no answer within" not in error_of(found)
    assert backend.received == []


async def test_denied_networks_are_refused(backend: BackendServer) -> None:
    guard = AddressGuard([ip_network("127.0.0.0/8")])
    client = OutboundClient(guard=guard, max_connections=1)
    try:
        found = await over(client).call(asking(backend.url(), retries=3))
    finally:
        await client.close()

    assert "never connected to" in error_of(found)


async def test_a_name_that_leads_to_loopback_or_metadata_is_refused(
    backend: BackendServer,
) -> None:
    for addresses in (["127.0.0.1"], ["169.254.169.254"], ["169.254.169.254", "127.0.0.1"]):
        client = OutboundClient(guard=AddressGuard(), max_connections=1, resolver=Names(addresses))
        try:
            found = await over(client).call(asking(backend.url(host="backend.example")))
        finally:
            await client.close()
        assert "never connected to" in error_of(found)
    assert backend.received == []


async def test_the_address_that_was_judged_is_the_one_connected_to(
    backend: BackendServer,
) -> None:
    """DNS rebinding: a name first has a good address, and ours when it is asked for again."""
    backend.answers("/", reply(200))
    guard = AddressGuard([ip_network("127.0.0.2/32")])
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    client = OutboundClient(guard=guard, max_connections=1, resolver=names)
    url = backend.url(host="localhost")
    try:
        first = await over(client).call(asking(url, headers=()))
        assert first.status == 200
        assert names.asked == ["localhost"]
    finally:
        await client.close()

    again = OutboundClient(guard=guard, max_connections=1, resolver=names)
    try:
        assert "never connected to" in error_of(await over(again).call(asking(url)))
    finally:
        await again.close()
    assert len(backend.received) == 1


async def test_a_refused_address_beside_a_good_one_is_passed_over(
    backend: BackendServer,
) -> None:
    backend.answers("/", reply(200))
    names = Names(["169.254.169.254", "127.0.0.1"])
    client = OutboundClient(guard=AddressGuard(), max_connections=1, resolver=names)
    try:
        found = await over(client).call(asking(backend.url(host="localhost")))
    finally:
        await client.close()

    assert found.status == 200
