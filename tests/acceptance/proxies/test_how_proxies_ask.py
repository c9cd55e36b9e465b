"""How each proxy, with its example, really asks and what it makes of an answer.

Pins docs/explanation/forwardauth/how-proxies-ask.md: when a new version of a proxy asks otherwise,
a test here says so before a user does.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException

import pytest

from acceptance.proxies.conftest import Start
from acceptance.proxies.policy import ALICE
from gatekeeper.platform.processes.listening import free_port
from proxies.application import Application
from proxies.client import ask, pour
from proxies.decisions import SILENCE, Decisions, Say, say
from proxies.loopback import Received
from proxies.servers import Proxy

pytestmark = pytest.mark.parametrize("decided_by", ["played"], indirect=True)

NGINX, INGRESS, TRAEFIK, CADDY, ENVOY, HAPROXY = (
    "nginx", "ingress-nginx", "traefik", "caddy", "envoy", "haproxy",
)  # fmt: skip
ANY = "*"
"""Differs from run to run."""

REQUEST_LINES = {
    NGINX: "GET /nginx/app HTTP/1.1",
    INGRESS: "GET /ingress-nginx/app HTTP/1.1",
    TRAEFIK: "GET /traefik/app HTTP/1.1",
    CADDY: "GET /caddy/app HTTP/1.1",
    ENVOY: "POST /envoy/app/a/b?c=d HTTP/1.1",
    HAPROXY: "GET /haproxy/app HTTP/1.1",
}
TOLD = {
    NGINX: {
        "host": "passctrl",
        "x-forwarded-method": "POST",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "app.example.com",
        "x-forwarded-uri": "/a/b?c=d",
        "x-forwarded-for": "127.0.0.1",
    },
    INGRESS: {
        "host": "passctrl.example.internal",
        "x-request-id": ANY,
        "x-original-url": "http://app.example.com/a/b?c=d",
        "x-original-method": "POST",
        "x-sent-from": "nginx-ingress-controller",
        "x-real-ip": "127.0.0.1",
        "x-forwarded-for": "127.0.0.1",
        "x-auth-request-redirect": "/a/b?c=d",
    },
    TRAEFIK: {
        "host": ANY,
        "user-agent": "Go-http-client/1.1",
        "accept-encoding": "gzip",
        "x-forwarded-method": "POST",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "app.example.com",
        "x-forwarded-port": "80",
        "x-forwarded-uri": "/a/b?c=d",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-server": ANY,
        "x-real-ip": "127.0.0.1",
    },
    CADDY: {
        "host": "app.example.com",
        "accept-encoding": "gzip",
        "via": "1.1 Caddy",
        "x-forwarded-method": "POST",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "app.example.com",
        "x-forwarded-uri": "/a/b?c=d",
        "x-forwarded-for": "127.0.0.1",
    },
    ENVOY: {
        "host": "app.example.com",
        "content-length": "0",
        "x-request-id": ANY,
        "x-forwarded-proto": "http",
        "x-forwarded-host": "app.example.com",
        "x-forwarded-for": ANY,
        "x-envoy-internal": "true",
        "x-envoy-expected-rq-timeout-ms": "5000",
    },
    HAPROXY: {
        "host": ANY,
        "accept": "*/*",
        "user-agent": "HAProxy",
        "x-forwarded-method": "POST",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "app.example.com",
        "x-forwarded-uri": "/a/b?c=d",
        "x-forwarded-for": "127.0.0.1",
    },
}


def test_what_a_proxy_asks(proxy: Proxy, played: Decisions) -> None:
    """A request without a header of its own but Host: all others are the proxy's."""
    ask(proxy.port, "/a/b?c=d", method="POST", body=b"hello")

    (question,) = played.asked
    told = {name.lower(): value for name, value in question.headers}
    expected = TOLD[proxy.name]
    assert question.head.decode().split("\r\n")[0] == REQUEST_LINES[proxy.name]
    assert {name: value if expected.get(name) != ANY else ANY for name, value in told.items()} == (
        expected
    )
    assert len(told) == len(question.headers), "a header stands twice"
    assert question.body == b""


LIES = [
    "X-Forwarded-Method: OPTIONS", "X-Forwarded-Proto: https", "X-Forwarded-Host: public.example.com",
    "X-Forwarded-Uri: /public", "X-Forwarded-For: 10.9.8.7", "X-Original-URL: http://public/",
    "X-Original-Method: OPTIONS",
]  # fmt: skip


HOP_BY_HOP = "Connection: close, " + ", ".join(lie.partition(":")[0] for lie in LIES)


@pytest.mark.parametrize("connection", [[], [HOP_BY_HOP]], ids=["told", "hop by hop"])
def test_what_a_client_says_under_the_same_names_is_overwritten(
    proxy: Proxy, played: Decisions, connection: list[str]
) -> None:
    ask(proxy.port, "/a/b?c=d", *LIES, *connection, method="POST", body=b"hello")

    if connection and proxy.name == ENVOY:
        assert played.asked == []  # it refuses a request that lists them
        return
    (question,) = played.asked
    for name, value in TOLD[proxy.name].items():
        (told,) = question.values(name)
        assert value in {told, ANY} or (name == "x-forwarded-for" and told.endswith(f", {value}"))


HAND_ON_A_PORT = {NGINX, INGRESS, CADDY}


def test_a_port_that_a_client_claims_is_handed_on_by_those_that_tell_none(
    proxy: Proxy, played: Decisions
) -> None:
    ask(proxy.port, "/", "X-Forwarded-Port: 8443")

    (question,) = played.asked
    assert ("8443" in question.values("x-forwarded-port")) == (proxy.name in HAND_ON_A_PORT)


def test_what_is_about_the_connection_or_a_body_is_not_asked(
    proxy: Proxy, played: Decisions
) -> None:
    lines = ["Upgrade: websocket", "Connection: Upgrade, Keep-Alive", "Keep-Alive: timeout=5",
             "TE: trailers", "Transfer-Encoding: chunked", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]  # fmt: skip
    ask(proxy.port, "/", *lines, method="POST", data=b"5\r\nhello\r\n0\r\n\r\n")

    for question in played.asked:
        assert question.body == b""
        for name in ("upgrade", "keep-alive", "transfer-encoding", "trailer"):
            assert question.values(name) == [], name
        assert question.values("connection") in ([], ["close"])
        assert question.values("content-length") in ([], ["0"])


WHOLE = "http://app.example.com/a"
RESOLVED: dict[str, str | None] = {"/a/../b": "/b", "//a": "/a", "/%2e%2e/b": "/b", WHOLE: "/a"}


def _refused(*paths: str) -> dict[str, str | None]:
    return dict.fromkeys(paths)


SPELLINGS: dict[str, dict[str, str | None]] = {
    # What differs from the path that is sent; None: the proxy refuses it.
    NGINX: _refused("/a%00b", "/%2e%2e/b", "*") | {WHOLE: "/a"},
    INGRESS: _refused("/a%00b", "/%2e%2e/b", "*") | {WHOLE: "/a"},
    TRAEFIK: RESOLVED
    | _refused("/a%2Fb", "/a%5Cb", "/a%3Bb", "/a%3Fb", "/a%23b", "/a%25b", "/a%00b", "/a#b", "*"),
    CADDY: {"/a#b": "/a%23b", WHOLE: "/a"},
    ENVOY: RESOLVED | _refused("/a%2Fb", "/a%5Cb", "/a%00b", "/a#b", "*"),
    HAPROXY: _refused(WHOLE, "*", "/a#b"),
}
ODD = ["/a%2Fb", "/a%5Cb", "/a%3Bb", "/a%3Fb", "/a%23b", "/a%25b", "/a%00b", "/a#b", "/a/../b",
       "//a", "/%2e%2e/b", "*", WHOLE]  # fmt: skip


def asked_about(question: Received) -> str:
    told = {name.lower(): value for name, value in question.headers}
    if url := told.get("x-original-url"):
        return "/" + url.split("/", 3)[3]
    return told.get("x-forwarded-uri") or question.target.removeprefix("/envoy/app")


@pytest.mark.parametrize("path", ODD)
def test_how_the_path_that_is_asked_about_is_spelt(
    proxy: Proxy, played: Decisions, path: str
) -> None:
    ask(proxy.port, path)

    spelt = SPELLINGS[proxy.name].get(path, path)
    assert [asked_about(question) for question in played.asked] == ([spelt] if spelt else [])


CLIENTS_OWN = {"authorization": ["Bearer t"], "cookie": ["a=1", "b=2"], "x-tag": ["one", "two"]}


def test_the_clients_own_headers_are_asked_about(proxy: Proxy, played: Decisions) -> None:
    lines = [f"{name}: {value}" for name, values in CLIENTS_OWN.items() for value in values]
    ask(proxy.port, "/", *lines)

    (question,) = played.asked
    heard = {name: question.values(name) for name in CLIENTS_OWN}
    if proxy.name == ENVOY:  # only what its configuration lists, and cookies joined by a comma
        assert heard == {"authorization": ["Bearer t"], "cookie": ["a=1,b=2"], "x-tag": []}
    else:
        assert heard == CLIENTS_OWN


def test_a_headers_underscore_twin_is_not_asked_about(proxy: Proxy, played: Decisions) -> None:
    ask(proxy.port, "/", "X_Forwarded_Uri: /public", "X_Tag: twin")

    # Envoy refuses such a request, and asks nothing.
    assert len(played.asked) == (proxy.name != ENVOY)
    assert not any("_" in name for question in played.asked for name, _ in question.headers)


KEEPS = {NGINX: (1, 4), INGRESS: (4, 4), TRAEFIK: (1, 1), CADDY: (1, 4), ENVOY: (1, 1),
         HAPROXY: (1, 1)}  # fmt: skip
"""Connections for four questions: answered without a body, and with one."""


@pytest.mark.parametrize("body", [b"", b"ok"], ids=["empty", "with a body"])
def test_how_many_connections_four_answers_that_allow_take(
    proxy: Proxy, played: Decisions, body: bytes
) -> None:
    played.answer = lambda _: say(200, body=body)
    ask(proxy.port)  # one that an earlier test may have left is used up
    played.asked.clear()

    for _ in range(4):
        ask(proxy.port)

    used = len({question.connection for question in played.asked})
    assert used == KEEPS[proxy.name][bool(body)]


def _always(answer: Say, _: Received) -> Say:
    return answer


STATUSES = (200, 201, 204, 302, 400, 401, 403, 404, 429, 500, 503)
MADE_OF = {
    NGINX: (200, 200, 200, 500, 500, 401, 403, 500, 500, 500, 500),
    INGRESS: (200, 200, 200, 500, 500, 401, 403, 500, 500, 500, 500),
    TRAEFIK: (200, 200, 200, 302, 400, 401, 403, 404, 429, 500, 503),
    CADDY: (200, 200, 200, 302, 400, 401, 403, 404, 429, 500, 503),
    ENVOY: (200, 201, 204, 302, 400, 401, 403, 404, 429, 503, 503),
    HAPROXY: (200, 503, 503, 302, 503, 401, 403, 503, 503, 503, 503),
}
ALLOWS = {ENVOY: {200}, HAPROXY: {200}}
"""Others: 200, 201, 204."""


def test_what_a_proxy_makes_of_a_status(
    proxy: Proxy, played: Decisions, application: Application
) -> None:
    made, allowed = [], set()
    for status in STATUSES:
        answer = say(status, ("location", "https://login.example.com/"))
        # 204 has no length (RFC 9110 section 8.6).
        answer = Say(b"HTTP/1.1 204 Said\r\n\r\n") if status == 204 else answer
        played.answer = partial(_always, answer)
        application.received.clear()
        made.append(ask(proxy.port).status)
        if application.received:
            allowed.add(status)

    assert tuple(made) == MADE_OF[proxy.name]
    assert allowed == ALLOWS.get(proxy.name, {200, 201, 204})


HEARS = {
    # (the challenges, a header of any name, the body)
    NGINX: (["A", "B"], False, False),
    INGRESS: (["A", "B"], False, False),
    TRAEFIK: (["A", "B"], True, True),
    CADDY: (["A", "B"], True, True),
    ENVOY: (["A", "B"], False, True),
    HAPROXY: (["A"], False, False),
}


def test_what_of_a_refusal_the_client_hears(proxy: Proxy, played: Decisions) -> None:
    played.answer = lambda _: say(
        401, ("www-authenticate", "A"), ("www-authenticate", "B"), ("x-note", "n"), body=b"why"
    )

    answer = ask(proxy.port)

    heard = (
        answer.values("www-authenticate"),
        bool(answer.values("x-note")),
        b"why" in answer.body,
    )
    assert heard == HEARS[proxy.name]


TWICE = {NGINX: ["u, v"], INGRESS: ["u, v"], TRAEFIK: ["u", "v"], CADDY: ["u,v"], ENVOY: ["v"],
         HAPROXY: ["u"]}  # fmt: skip


def test_an_identity_header_that_is_answered_twice_means_six_things(
    proxy: Proxy, played: Decisions
) -> None:
    played.answer = lambda _: say(200, ("x-user", "u"), ("x-user", "v"))

    assert ask(proxy.port).arrived.values("x-user") == TWICE[proxy.name]


def test_a_clients_identity_header_does_not_survive_an_answer_without_one(
    proxy: Proxy, played: Decisions
) -> None:
    """What Caddy once did (CVE-2026-30851)."""
    played.answer = lambda _: say(200)

    arrived = ask(proxy.port, "/", "X-User: root", "X-Groups: root", "X-Email: root").arrived

    for name in ("x-user", "x-groups", "x-email"):
        assert arrived.twins(name) in ([], [""])


LARGEST = {NGINX: 12_000, INGRESS: 3_000, TRAEFIK: 60_000, CADDY: 60_000, ENVOY: 50_000,
           HAPROXY: 12_000}  # fmt: skip
"""Characters of an identity header that pass; with a third more, nginx and HAProxy refuse."""


@pytest.mark.parametrize("factor", [1.0, 1.4], ids=["fits", "too large"])
def test_a_large_identity_header_passes_or_the_request_is_refused(
    proxy: Proxy, played: Decisions, application: Application, factor: float
) -> None:
    user = "u" * int(LARGEST[proxy.name] * factor)
    played.answer = lambda _: say(200, ("x-user", user))

    answer = ask(proxy.port)

    passes = factor == 1.0 or proxy.name in {TRAEFIK, CADDY}
    assert [answer.status] == ([200] if passes else [503 if proxy.name == HAPROXY else 500])
    assert [request.value("x-user") for request in application.received] == [user] * passes


NOT_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/0.9": b"allowed\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nX-User: root",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX-User: ro\0ot\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "an interim answer alone": b"HTTP/1.1 100 Continue\r\n\r\n",
    "another protocol from here": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("garbage", NOT_HTTP)
def test_an_answer_that_is_not_http_lets_nobody_in(
    proxy: Proxy, played: Decisions, application: Application, garbage: str
) -> None:
    played.answer = lambda _: Say(NOT_HTTP[garbage], close=True)

    # Envoy hands four digits on, which the client then refuses; so may it what is no HTTP.
    with contextlib.suppress(HTTPException):
        ask(proxy.port)

    assert application.received == []


def test_a_decision_service_that_is_not_there_lets_nobody_in(
    proxy: Proxy, start: Start, application: Application
) -> None:
    answer = ask(start(proxy.name, free_port()).port)

    assert answer.status == {CADDY: 502, ENVOY: 503, HAPROXY: 503}.get(proxy.name, 500)
    assert application.received == []


SMUGGLED = [
    "Content-Length: 4\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity, chunked\r\nContent-Length: 4",
    "Transfer-Encoding : chunked\r\nContent-Length: 4",
    "Transfer-Encoding: xchunked\r\nContent-Length: 4",
    "Content-Length: 0\r\nContent-Length: 4",
    "Content-Length: +4",
    "X-Note: a\nTransfer-Encoding: chunked\r\nContent-Length: 4",
]
"""Ways to say two lengths at once (RFC 9112 section 6.3): whoever reads the other one takes what
follows for a request of its own."""


@pytest.mark.parametrize("lengths", SMUGGLED)
def test_no_request_is_smuggled_past_the_question(
    proxy: Proxy, application: Application, lengths: str
) -> None:
    head = f"POST /upload HTTP/1.1\r\nHost: app.example.com\r\n{ALICE}\r\n{lengths}\r\n\r\n"
    smuggled = "GET /admin HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n"

    pour(proxy.port, f"{head}0\r\n\r\n{smuggled}".encode())

    assert [request.target for request in application.received] in ([], ["/upload"])


WAITS = {NGINX: 500, CADDY: 504, ENVOY: 503, HAPROXY: 503}
"""What the client gets after 5 seconds without an answer."""
WAITS_LONG = {TRAEFIK: 500, INGRESS: 500}
"""After 30 and 60 seconds, which nothing in the configuration changes."""
LONGEST = 120
"""Seconds."""


def ask_in_vain(proxies: list[Proxy], played: Decisions) -> dict[str, int]:
    """Ask all of them at once: each waits as long as it waits."""
    played.answer = lambda _: SILENCE
    with ThreadPoolExecutor(len(proxies)) as at_once:
        answers = at_once.map(lambda proxy: ask(proxy.port, patience=LONGEST), proxies)
        return {proxy.name: answer.status for proxy, answer in zip(proxies, answers, strict=True)}


def test_an_answer_that_does_not_come_lets_nobody_in(
    decided_by: int, start: Start, played: Decisions, application: Application
) -> None:
    proxies = [start(name, decided_by) for name in WAITS]

    assert ask_in_vain(proxies, played) == WAITS
    assert application.received == []


@pytest.mark.slow
def test_an_answer_that_does_not_come_is_waited_for_longer_by_two(
    decided_by: int, start: Start, played: Decisions, application: Application
) -> None:
    proxies = [start(name, decided_by) for name in WAITS_LONG]

    assert ask_in_vain(proxies, played) == WAITS_LONG
    assert application.received == []
