"""What every proxy does with PassCtrl's word: the same for all, first with the policy played,
then with PassCtrl itself.
"""

import pytest
from websockets.sync.client import connect

from acceptance.proxies.policy import ALICE, CHALLENGE, LOGIN, MALLORY, PORTAL, about
from proxies.application import Application
from proxies.client import PATIENCE, ask, send
from proxies.servers import Proxy

REFUSED = {400, 401, 403, 500, 503}
"""What is wrong with a question, not every proxy can tell the client."""
MEBIBYTE = b"x" * 1_048_576


def test_a_request_that_is_allowed_arrives_with_the_identity_passctrl_gave(proxy: Proxy) -> None:
    arrived = ask(proxy.port, "/reports?year=2026", ALICE).arrived

    assert arrived.twins("x-user") == ["alice"]
    assert arrived.values("x-groups") == ["GET http://app.example.com:80/reports?year=2026"]
    assert (arrived.method, arrived.target) == ("GET", "/reports?year=2026")


@pytest.mark.parametrize(
    "forged",
    [
        ["X-User: root", "X-Groups: admins", "X-Email: root@example.com"],
        ["x-user: root", "X-USER: root", "X-Email: root", "x-email: root"],
        ["X_User: root", "X_Groups: admins", "x_email: root@example.com", "X-Us_er: root"],
        ["X-User: root", "Connection: close, X-User, X-Groups, X-Email", "X-Email: root"],
        ["X-User: root", "Connection: Upgrade, X-User, X-Groups, X-Email", "Upgrade: other"],
    ],
    ids=["named", "repeated", "underscores", "listed in Connection", "listed in an upgrade"],
)
def test_no_identity_header_of_a_client_arrives(
    proxy: Proxy, application: Application, forged: list[str]
) -> None:
    answer = ask(proxy.port, "/", ALICE, *forged)

    if answer.status in {400, 403}:  # a proxy may refuse the request altogether
        assert application.received == []
        return
    arrived = answer.arrived
    assert arrived.twins("x-user") == ["alice"]
    assert arrived.twins("x-groups") == ["GET http://app.example.com:80/"]
    assert arrived.twins("x-email") in ([], [""])
    assert not any("root" in value or "admins" in value for _, value in arrived.headers)
    # Another proxy on the way would drop what stands there.
    assert "x-" not in " ".join(arrived.values("connection")).lower()


def test_a_request_without_a_credential_is_asked_for_one(
    proxy: Proxy, application: Application
) -> None:
    answer = ask(proxy.port)

    assert answer.status == 401
    assert answer.values("www-authenticate") == [CHALLENGE]
    assert application.received == []


def test_a_request_that_is_denied_does_not_arrive(proxy: Proxy, application: Application) -> None:
    assert ask(proxy.port, "/", MALLORY).status == 403
    assert application.received == []


def test_a_browser_is_sent_to_the_login_page(portal: Proxy, application: Application) -> None:
    answer = ask(portal.port, "/start?x=1", PORTAL)

    (location,) = answer.values("location")
    assert answer.status == 302
    assert location.partition("?")[0] == LOGIN
    assert application.received == []


def test_the_application_may_answer_401_of_its_own(proxy: Proxy) -> None:
    answer = ask(proxy.port, "/refuses", ALICE)

    assert answer.status == 401
    assert answer.values("server") != [] or answer.body
    assert b"/refuses" in answer.body


def test_a_large_body_arrives_whole_when_the_request_is_allowed(proxy: Proxy) -> None:
    arrived = ask(proxy.port, "/upload", ALICE, method="POST", body=MEBIBYTE).arrived

    assert (arrived.method, arrived.body) == ("POST", len(MEBIBYTE))
    assert arrived.values("x-groups") == ["POST http://app.example.com:80/upload"]


def test_a_body_sent_in_chunks_arrives(proxy: Proxy) -> None:
    chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"

    arrived = ask(
        proxy.port, "/upload", ALICE, "Transfer-Encoding: chunked", method="POST", data=chunks
    ).arrived

    assert arrived.body == len("hello world")


def test_a_request_with_a_body_that_is_denied_does_not_arrive(
    proxy: Proxy, application: Application
) -> None:
    assert ask(proxy.port, "/upload", MALLORY, method="POST", body=b"x" * 1_000).status == 403
    assert application.received == []


def test_an_upgrade_to_websocket_that_is_allowed_goes_through(
    proxy: Proxy, application: Application
) -> None:
    name, _, value = ALICE.partition(": ")

    with connect(
        f"ws://127.0.0.1:{proxy.port}/live",
        additional_headers={name: value, "X-User": "root"},
        open_timeout=PATIENCE,
        proxy=None,
    ) as socket:
        socket.send("are you there?")
        assert socket.recv(PATIENCE) == "are you there?"
    assert application.received[-1].values("x-user") == ["alice"]


def test_an_upgrade_to_websocket_without_a_credential_is_refused(
    proxy: Proxy, application: Application
) -> None:
    lines = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]

    assert ask(proxy.port, "/live", *lines).status == 401
    assert application.received == []


def test_a_cookie_of_8_kib_goes_through(proxy: Proxy) -> None:
    cookie = "session=" + "c" * 8_192

    assert ask(proxy.port, "/", ALICE, f"Cookie: {cookie}").arrived.values("cookie") == [cookie]


def test_headers_that_stand_twice_arrive_twice(proxy: Proxy) -> None:
    arrived = ask(proxy.port, "/", ALICE, "X-Tag: one", "X-Tag: two").arrived

    assert ", ".join(arrived.values("x-tag")) == "one, two"


@pytest.mark.parametrize("order", [(ALICE, MALLORY), (MALLORY, ALICE)], ids=["first", "last"])
def test_two_credentials_are_no_credential(
    proxy: Proxy, application: Application, order: tuple[str, str]
) -> None:
    assert ask(proxy.port, "/", *order).status in REFUSED
    assert application.received == []


PATHS = [
    "/a%2Fb", "/a%2fb", "/%2e%2e/admin", "/a/%2e%2e/admin", "/a/.%2e/admin", "/a/../admin",
    "/a/./b", "//admin", "/a//b", "/a;v=1/b", "/a/..;/admin", "/a%5Cb", "/a%252Fb", "/a%00b",
    "/caf%C3%A9", "/a%20b", "/a?next=/public/../x", "/a?x=%2F%2e%2e", "/?", "/a#b", "/%C0%AF", "*", "http://app.example.com/a", "/a%3Bb", "/a%3Fb", "/a%23b",
    "/a%250ab",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_the_path_that_is_judged_is_the_path_that_arrives(
    proxy: Proxy, application: Application, path: str
) -> None:
    answer = ask(proxy.port, path, ALICE)

    if answer.status != 200:
        assert application.received == []
        return
    arrived = answer.arrived
    (host,) = arrived.values("host")
    assert arrived.values("x-groups") == [about(arrived.method, host, arrived.target)]


HOSTS = [
    ["Host: APP.example.com"], ["Host: app.example.com:8443"], ["Host: app.example.com."],
    ["Host: app.example.com", "Host: public.example.com"], ["Host:"],
    ["Host: app.example.com", "X-Forwarded-Host: public.example.com"],
    ["Host: public.example.com/x"], ["Host: public.example.com@app.example.com"],
]  # fmt: skip


@pytest.mark.parametrize("target", ["/", "http://public.example.com/"])
@pytest.mark.parametrize("hosts", HOSTS, ids=" ".join)
def test_the_host_that_is_judged_is_the_host_that_arrives(
    proxy: Proxy, application: Application, hosts: list[str], target: str
) -> None:
    answer = ask(proxy.port, target, ALICE, *hosts)

    if answer.status != 200:
        assert application.received == []
        return
    arrived = answer.arrived
    (host,) = arrived.values("host")
    assert arrived.values("x-groups") == [about(arrived.method, host, arrived.target)]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PURGE", "DELETE", "POST"])
def test_the_method_that_is_judged_is_the_method_that_arrives(
    proxy: Proxy, application: Application, method: str
) -> None:
    assert ask(proxy.port, "/cache", ALICE, method=method).status == 200
    (request,) = application.received
    assert request.method == method
    assert request.value("x-groups") == f"{method} http://app.example.com:80/cache"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PURGE", "DELETE", "POST", "get"])
def test_no_method_needs_no_credential(proxy: Proxy, application: Application, method: str) -> None:
    assert ask(proxy.port, "/cache", method=method).status in REFUSED
    assert application.received == []


@pytest.mark.parametrize(
    "lie",
    [
        ["X-Forwarded-Uri: /public", "X-Forwarded-Method: OPTIONS"],
        ["X-Original-URL: http://app.example.com/public", "X-Original-Method: OPTIONS"],
        ["X-Forwarded-Uri: /public", "Connection: close, X-Forwarded-Uri, X-Forwarded-Method"],
        ["X-Original-URL: /public", "Connection: close, X-Original-URL, X-Original-Method"],
        ["X-Forwarded-Uri: /public", "X-Forwarded-Uri: /public", "x-original-uri: /public"],
        ["X-Rewrite-URL: /public", "X-Forwarded-Prefix: /public", "X-Envoy-Original-Path: /p"],
        ["X-HTTP-Method-Override: OPTIONS", "X_Forwarded_Uri: /public"],
        ["Forwarded: for=10.0.0.1;host=public.example.com;proto=https"],
        ["X-Forwarded-Proto: https", "X-Forwarded-Port: 8443", "X-Forwarded-Ssl: on"],
        ["X-Forwarded-Host: public.example.com", "X-Original-Host: public.example.com"],
    ],
    ids=["forwarded", "original", "hop by hop", "hop by hop original", "twice", "rewrite",
         "override", "rfc 7239", "scheme and port", "host"],
)  # fmt: skip
def test_what_a_client_says_of_its_request_is_not_believed(
    proxy: Proxy, application: Application, lie: list[str]
) -> None:
    answer = ask(proxy.port, "/admin", ALICE, *lie)

    if answer.status != 200:
        assert answer.status in REFUSED
        assert application.received == []
        return
    arrived = answer.arrived
    assert (arrived.method, arrived.target) == ("GET", "/admin")
    assert arrived.values("x-groups") == ["GET http://app.example.com:80/admin"]


def test_every_request_on_a_connection_is_judged(proxy: Proxy, application: Application) -> None:
    first = f"GET /first HTTP/1.1\r\nHost: app.example.com\r\n{ALICE}\r\n\r\n"
    second = "GET /second HTTP/1.1\r\nHost: app.example.com\r\n\r\n"

    answers = send(proxy.port, first.encode(), second.encode())

    assert [answer.status for answer in answers] == [200, 401]
    assert [request.target for request in application.received] == ["/first"]
