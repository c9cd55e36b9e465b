"""Bypasses that happened to others, tried on PassCtrl behind every real proxy.

One property holds for all: what the application gets is what was judged, under the same method,
host and path, with the identity PassCtrl gave; or it gets nothing. docs/explanation/forwardauth/
bypasses.md says what each case was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from random import Random  # noqa: TID251  # the same inputs in every run
from typing import TYPE_CHECKING, Final

import pytest

from acceptance.proxies.policy import ALICE, MALLORY, about
from gatekeeper.platform.processes.listening import free_port
from proxies.client import PATIENCE, Answer, ask
from proxies.servers import GRPC, KINDS, answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acceptance.proxies.conftest import Start
    from proxies.application import Application
    from proxies.loopback import Received
    from proxies.servers import Proxy

pytestmark = pytest.mark.parametrize("decided_by", ["real"], indirect=True)

IDENTITY: Final = ("x-user", "x-groups", "x-email")
OPERATIONS: Final = ("/healthz", "/readyz", "/metrics", "/explain", "/login", "/page.css")


EACH_TIME: Final = ("nginx", "envoy")
"""Asked each time: they tell a request in the two ways there are, in headers and as it is."""
LANES: Final = [
    pytest.param(kind, marks=[] if kind in EACH_TIME else pytest.mark.slow)
    for kind in (*KINDS, GRPC.name)
]


@pytest.fixture(scope="module", params=LANES)
def name(request: pytest.FixtureRequest) -> str:
    """Give each way a proxy asks, Envoy's by gRPC too."""
    return str(request.param)


@pytest.fixture(scope="module")
def proxy(name: str, decided_by: int, real_grpc: int, start: Start) -> Proxy:
    return start(name, real_grpc if name == GRPC.name else decided_by)


def judged(request: Received) -> None:
    """Fail unless this is what alice was allowed, and nothing that a client made up."""
    twins: dict[str, list[str]] = {name: [] for name in IDENTITY}
    for name, value in request.headers:
        if (plain := name.lower().replace("_", "-")) in twins:
            twins[plain].append(value)
    host = request.value("host")
    assert host is not None
    assert twins["x-user"] == ["alice"], request
    assert twins["x-groups"] == [about(request.method, host, request.target)], request
    assert twins["x-email"] in ([], [""]), request


# What happened to others.

BYPASSES: Final[dict[str, tuple[str, list[str]]]] = {
    # Who speaks for the proxy.
    "CVE-2026-40575": ("/admin", ["X-Forwarded-Uri: /public", "X-Forwarded-Uri: /ping"]),
    "GHSA-vhr5-ggp3-qq85": ("/admin", ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: on"]),
    "CVE-2026-35051": ("/admin", ["X-Forwarded-Prefix: /public", "X-Forwarded-Prefix: /x"]),
    "CVE-2026-39858": ("/admin", ["X_Forwarded_Proto: https", "X_Forwarded_Uri: /public"]),
    "CVE-2025-64484": ("/admin", ["X_User: root", "X-us_er: root", "X_GROUPS: admins"]),
    "CVE-2026-52845": ("/admin", ["X_User: root", "x_user: root", "X-User: root"]),
    "CVE-2025-48865": ("/admin", ["Connection: close, X-Forwarded-Host, X-Forwarded-Uri"]),
    "hop-by-hop identity": ("/admin", ["Connection: X-User, X-Groups", "X-User: root"]),
    "hop-by-hop credential": ("/admin", ["Connection: Authorization, X-Request-Id"]),
    "forwarded for, twice": ("/admin", ["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: ::1"]),
    "forwarded for, malformed": ("/admin", ["X-Forwarded-For: unknown, _hidden, [::1", "X-Real-IP: ::ffff:127.0.0.1"]),
    "RFC 7239": ("/admin", ['Forwarded: for="[::1]:80";host=public.example.com;proto=https']),
    "CVE-2019-9900": ("/admin", ["X-Note: a\0b"]),
    "control bytes": ("/admin", ["X-Note: a\x01b\x7f", "X-User: ro\x0bot"]),
    "CVE-2024-23324": ("/admin", ["X-Note: \xff\xfe\xc0\xaf", "Cookie: a=\xff"]),
    "method override": ("/admin", ["X-HTTP-Method-Override: OPTIONS", "X-Method-Override: GET", "X-HTTP-Method: HEAD"]),
    "CVE-2026-24513": ("/admin", ["X-Code: 401", "X-Original-URI: /public", "X-Format: text/html"]),
    # Hosts.
    "CVE-2026-48710": ("/admin", ["Host: app.example.com/abc?x="]),
    "CVE-2026-42273": ("/admin", ["Host: APP.Example.COM."]),
    "absolute form": ("http://public.example.com/admin", ["Host: app.example.com"]),
    "absolute form with a user": ("http://app.example.com@public.example.com/admin", []),
    "two hosts": ("/admin", ["Host: app.example.com", "Host: public.example.com"]),
    "host with a space": ("/admin", ["Host: app.example.com public.example.com"]),
    # Paths.
    "GHSA-p224-6x5r-fjpm": ("/public/../admin", []),
    "CVE-2026-42274": ("/public/%2e%2e/admin", []),
    "dots, half encoded": ("/public/.%2E/admin", []),
    "dots and a semicolon": ("/public/..;/admin", []),
    "dots and an encoded slash": ("/public/%2e%2e%2fadmin", []),
    "CVE-2026-42272": ("/public%2fadmin", []),
    "encoded slash, capital": ("/public%2Fadmin", []),
    "CVE-2026-26205": ("//public.example.com/admin", []),
    "CVE-2021-29492": ("/public/..%5Cadmin", []),
    "backslash": ("/public\\..\\admin", []),
    "CVE-2026-32811": ("/admin?x=/public?y", []),
    "encoded question mark": ("/admin%3Fx=/public", []),
    "CVE-2025-54576": ("/admin?x=/public", []),
    "CVE-2026-41059": ("/admin#/public", []),
    "encoded fragment": ("/admin%23/public", []),
    "CVE-2026-40912": ("/public%2F..%2Fadmin", []),
    "CVE-2026-33186": ("admin", []),
    "CVE-2026-54282": ("@public.example.com/admin", []),
    "overlong UTF-8": ("/public/%C0%AE%C0%AE/admin", []),
    "encoded twice": ("/public/%252e%252e/admin", []),
    "matrix parameter": ("/admin;x=/public", []),
    "trailing dot and space": ("/admin.%20", []),
    "NUL in the path": ("/admin%00/public", []),
    "a malformed triplet": ("/admin%zz%2", []),
    "raw bytes": ("/adm\xefn", []),
    "asterisk": ("*", []),
    # What is too much.
    "a target of 9 KiB": ("/" + "a" * 9_000, []),
    "a query of 9 KiB": ("/?" + "a=1&" * 2_250, []),
    "200 headers": ("/admin", [f"X-Note-{number}: a" for number in range(200)]),
    "a header of 100 KiB": ("/admin", ["X-Note: " + "a" * 100_000]),
    "32 hops and more": ("/admin", ["X-Forwarded-For: " + ", ".join(["127.0.0.1"] * 500)]),
}  # fmt: skip


def tried(port: int, target: str, *lines: str, method: str = "GET") -> Answer | None:
    """Ask; None where the proxy ends the connection instead of an answer."""
    with contextlib.suppress(OSError, HTTPException):
        return ask(port, target, *lines, method=method)
    return None


@pytest.mark.parametrize(("target", "lines"), BYPASSES.values(), ids=BYPASSES)
def test_a_bypass_gets_nothing_but_what_was_judged(
    proxy: Proxy, application: Application, target: str, lines: list[str]
) -> None:
    for credential in (ALICE, MALLORY, "X-Note: nobody"):
        tried(proxy.port, target, credential, *lines)

    for request in application.received:
        judged(request)
    assert len(application.received) <= 1  # alice's


@pytest.mark.parametrize("path", ["/ping", "/ready", "/oauth2/auth", "/.well-known/x", *OPERATIONS])
def test_no_path_and_no_agent_needs_no_credential(
    proxy: Proxy, application: Application, path: str
) -> None:
    """CVE-2026-34457; and nothing of operations is where a client of the proxy comes."""
    for agent in ("GoogleHC/1.0", "kube-probe/1.33", "ELB-HealthChecker/2.0"):
        assert ask(proxy.port, path, f"User-Agent: {agent}").status == 401
    assert application.received == []


@pytest.mark.parametrize(
    "credential",
    [
        "Authorization: Bearer",
        "Authorization: Bearer alice alice",
        "Authorization: Bearer alice, Bearer alice",
        "Authorization: Bearer Alice",
        "Authorization: Bearer alice\t",
        "Authorization: Bearer \xe0lice",
        "Authorization: Basic YWxpY2U6YWxpY2U=",
        "Authorization: Basic %%%",
        "Authorization: Basic /////w==",
        "Authorization: alice",
        "Authorization_: Bearer alice",
        "X-Authorization: Bearer alice",
        "Proxy-Authorization: Bearer alice",
        "Cookie: Authorization=Bearer alice; =; ;;; a",
        "Cookie: \xff\xfe=%%%; session=",
    ],
)
def test_a_credential_that_is_broken_is_none(
    proxy: Proxy, application: Application, credential: str
) -> None:
    """CVE-2026-25748: what cannot be read must not end in the answer an error begins with."""
    answer = tried(proxy.port, "/admin", credential)

    # White space around a value is none of it (RFC 9110 section 5.5): that one is alice.
    if credential.endswith("\t"):
        assert [request.value("x-user") for request in application.received] in ([], ["alice"])
        return
    assert answer is None or answer.status in {400, 401, 403, 500, 503}
    assert application.received == []


# Mutated requests: what is mutated stays within its line, so every request is one.

SEED: Final = 20_261_125
QUICK: Final = {"nginx": 300}
"""Requests; of the proxies that are not named 60."""
SLOW: Final = 5_000
TARGETS: Final = ("/admin", "/public/x", "/a/b?c=d", "/", *(path for path, _ in BYPASSES.values()))
PARTS: Final = (
    *("/", "//", ".", "..", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "\\", ";", ";/", "?", "#", "%"),
    *("%00", "%0d%0a", "%c0%af", "%252f", "@", ":", "http://", "*", "\x00", "\x7f", "\xff", "\t"),
    *("admin", "public", "a" * 300, "%EF%BC%8F", "&", "=", "+", "[", "]", "|", "~", "'", '"'),
)
NAMES: Final = (
    *("X-User", "X_User", "x-user", "X-Groups", "X-Forwarded-Uri", "X-Forwarded-Method", "Host"),
    *("X-Forwarded-For", "X-Original-URL", "X-Original-Method", "Connection", "Authorization"),
    *("Cookie", "Forwarded", "X-Real-IP", "X-HTTP-Method-Override", "Expect", "TE", "Upgrade"),
    *("X-Envoy-Original-Path", "X-Rewrite-Url", "Proxy-Connection", "Keep-Alive", "Via", "X-Note"),
)
VALUES: Final = (
    *("root", "/public", "OPTIONS", "close, X-User", "Bearer mallory", "a=b; a=c", "127.0.0.1"),
    *("for=unknown", "100-continue", "trailers", "websocket", "app.example.com", "", "\xff"),
    *("public.example.com", "X-Forwarded-Uri", "keep-alive, Authorization", "a" * 2_000),
)
METHODS: Final = ("GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "DELETE", "PATCH", "get", "G ET")


def mutated(random: Random) -> tuple[str, str, list[str]]:
    target = random.choice(TARGETS)
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.randrange(len(target) + 1)
        target = target[:at] + random.choice(PARTS) + target[at + random.choice((0, 0, 1, 3)) :]
    lines = [random.choice((ALICE, ALICE, ALICE, MALLORY, "X-Note: nobody"))]
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        name = random.choice(NAMES)
        if random.random() < 0.2:
            at = random.randrange(len(name))
            name = name[:at] + random.choice("_-. \t.~\x00\xe0") + name[at + 1 :]
        lines.insert(random.randrange(len(lines) + 1), f"{name}: {random.choice(VALUES)}")
    return random.choice(METHODS), target, lines


def attack(proxy: Proxy, application: Application, count: int) -> None:
    """Send mutated requests; each that arrives must be one that was judged so."""
    random = Random(SEED)  # noqa: S311  # no secret is made of it
    arrived = 0
    for _ in range(count):
        method, target, lines = mutated(random)
        if any(line.startswith("Expect") for line in lines):
            lines.append("Content-Length: 0")
        answer = tried(proxy.port, target, *lines, method=method)
        for request in application.received:
            judged(request)
            assert ALICE in lines, (method, target, lines)
        assert len(application.received) <= 1, (method, target, lines)
        # Traefik and Caddy answer `OPTIONS *` themselves, and say nothing in it.
        if answer is not None and 200 <= answer.status < 300 and target != "*":
            assert application.received, (method, target, lines)
        arrived += len(application.received)
        application.received.clear()
    assert arrived > count // 20  # else nothing was tried


def test_no_mutated_request_arrives_but_as_it_was_judged(
    proxy: Proxy, application: Application
) -> None:
    attack(proxy, application, QUICK.get(proxy.name, 60))


@pytest.mark.slow
def test_none_of_many_mutated_requests_arrives_but_as_it_was_judged(
    proxy: Proxy, application: Application
) -> None:
    attack(proxy, application, SLOW)


# HTTP/2, by hand: libraries do not send such fields.

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA_FRAME, HEADERS_FRAME, RST_FRAME, SETTINGS_FRAME, GOAWAY_FRAME = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1

Fields = list[tuple[str, str]]

USUAL: Final = [
    (":method", "GET"), (":scheme", "http"), (":authority", "app.example.com"),
    (":path", "/admin"), ("authorization", "Bearer alice"),
]  # fmt: skip


def usual(**changed: str | None) -> Fields:
    """Return the fields of a good request, with some pseudo-headers changed or left out."""
    found = [(name, changed.get(name[1:], value) if name[0] == ":" else value) for name, value in USUAL]  # fmt: skip
    return [(name, value) for name, value in found if value is not None]


HTTP_2: Final[dict[str, Fields]] = {
    "usual": usual(),
    "CVE-2026-33186": usual(path="admin"),
    "no path": usual(path=None),
    "an empty path": usual(path=""),
    "asterisk": usual(path="*"),
    "another endpoint's path": usual(path="2/admin"),
    "an absolute path": usual(path="http://public.example.com/admin"),
    "two slashes": usual(path="//public.example.com/admin"),
    "dots": usual(path="/public/../admin"),
    "a space in the path": usual(path="/public HTTP/1.1"),
    "a line break in the path": usual(path="/public HTTP/1.1\r\nX-User: root\r\n\r\n"),
    "a fragment": usual(path="/admin#/public"),
    "a line break in the method": usual(method="GET /public HTTP/1.1\r\nX-User: root\r\n\r\nGET"),
    "a space in the method": usual(method="GET /public"),
    "a method in lower case": usual(method="get"),
    "CONNECT": usual(method="CONNECT"),
    "no scheme": usual(scheme=None),
    "another scheme": usual(scheme="https://public.example.com/?"),
    "no authority": usual(authority=None),
    "an authority with a path": usual(authority="app.example.com/public?"),
    "an authority with a user": usual(authority="app.example.com@public.example.com"),
    "two paths": [*usual(), (":path", "/public")],
    "two authorities": [*usual(), (":authority", "public.example.com")],
    "authority and host": [*usual(), ("host", "public.example.com")],
    "two hosts": [*usual(), ("host", "app.example.com"), ("host", "public.example.com")],
    "a pseudo-header behind the others": [*usual(path=None), (":path", "/public")],
    "an unknown pseudo-header": [*usual(), (":x-user", "root")],
    "a name in capitals": [*usual(), ("X-User", "root")],
    "a line break in a value": [*usual(), ("x-note", "a\r\nx-user: root")],
    "a line break in a name": [*usual(), ("x-note: a\r\nx-user", "root")],
    "a colon in a name": [*usual(), ("x-user: root, x-note", "a")],
    "NUL": [*usual(), ("x-note", "a\0b")],
    "connection": [*usual(), ("connection", "x-user, x-groups"), ("x-user", "root")],
    "transfer-encoding": [*usual(), ("transfer-encoding", "chunked")],
    "content-length": [*usual(), ("content-length", "5")],
    "upgrade": [*usual(), ("upgrade", "websocket"), ("connection", "upgrade")],
    "twins": [*usual(), ("x_user", "root"), ("x-us_er", "root")],
    "identity": [*usual(), ("x-user", "root"), ("x-groups", "admins"), ("x-email", "root")],
    "said of the request": [*usual(), ("x-forwarded-uri", "/public"), ("x-original-url", "/public")],
    "cookies apart": [*usual(), ("cookie", "a=1"), ("cookie", "a=2")],
    "two credentials": [*usual(), ("authorization", "Bearer mallory")],
}  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113 section 4.1."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def packed(fields: Fields) -> bytes:
    """Write each field as a literal without indexing, its name too (RFC 7541 section 6.2.2)."""
    texts = ((text.encode("latin-1") for text in field) for field in fields)
    return b"".join(b"\0" + b"".join(_string(text) for text in pair) for pair in texts)


def _string(text: bytes) -> bytes:
    assert len(text) < 127  # one byte tells the length (RFC 7541 section 5.1)
    return bytes((len(text),)) + text


def speak(port: int, fields: Fields) -> bool:
    """Send one request; tell whether HTTP/2 is spoken there, once it is answered or refused."""
    request = frame(HEADERS_FRAME, END_STREAM | END_HEADERS, 1, packed(fields))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
        contextlib.suppress(ConnectionError),
        connection.makefile("rb") as reader,
    ):
        connection.sendall(PREFACE + frame(SETTINGS_FRAME, 0, 0, b"") + request)
        spoken = False
        while len(head := reader.read(9)) == 9:
            if head.startswith(b"HTTP/1"):
                return False
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            reader.read(length)
            spoken = True
            ends = kind in {DATA_FRAME, HEADERS_FRAME} and flags & END_STREAM
            if ends or kind in {RST_FRAME, GOAWAY_FRAME}:
                return True
        return spoken
    return False


SPEAK_HTTP_2: Final = {"caddy", "traefik", "envoy", "envoy-grpc", "haproxy"}
"""On a port without TLS; the examples of the others answer that they do not."""


Spoken = tuple[bool, "list[Received]"]
"""Whether HTTP/2 was spoken, and what arrived."""


@pytest.fixture(scope="module")
def over_http_2(proxy: Proxy, application: Application) -> dict[str, Spoken]:
    """Ask everything at once: a proxy may take a second to end a connection. `x-case` tells all apart."""
    application.received.clear()
    with ThreadPoolExecutor(len(HTTP_2)) as pool:
        asked = pool.map(lambda case: speak(proxy.port, [*HTTP_2[case], ("x-case", case)]), HTTP_2)
        spoken = dict(zip(HTTP_2, asked, strict=True))
    arrived: dict[str | None, list[Received]] = {case: [] for case in HTTP_2}
    for request in application.received:
        arrived[request.value("x-case")].append(request)
    return {case: (spoken[case], arrived[case]) for case in HTTP_2}


@pytest.mark.parametrize("case", HTTP_2)
def test_nothing_odd_in_http_2_gets_past_what_was_judged(
    proxy: Proxy, over_http_2: dict[str, Spoken], case: str
) -> None:
    spoken, arrived = over_http_2[case]

    for request in arrived:
        judged(request)
    assert len(arrived) <= 1
    if case == "usual":
        assert spoken is (proxy.name in SPEAK_HTTP_2)
        assert bool(arrived) is spoken


# PassCtrl killed while it decides.

WAITING: Final = """
server:
  listen: {{ port: {port} }}
  operations: {{ port: {operations} }}
  workers: 2
endpoints:
  app:
    authentication: {{ allow: {{ authorization: [bearer] }} }}
    forwardProxyPolicy: {{ trustedProxyIPs: [127.0.0.1] }}
    rules: [{{ name: waits }}]
rules:
  waits:
    backendApi: {{ url: "http://127.0.0.1:{backend}/", timeout: 3s }}
"""
START: Final = """
import os, sys
from pathlib import Path
from gatekeeper.bootstrap.forwardauth.serving import serve_forwardauth
if __name__ == "__main__":
    sys.exit(serve_forwardauth(Path(sys.argv[1]), os.environ))
"""


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def backend() -> Iterator[socket.socket]:
    """Listen, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        yield listening


@pytest.fixture(scope="module")
def waiting(
    backend: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a PassCtrl of two workers whose decisions wait for the backend."""
    port, folder = free_port(), tmp_path_factory.mktemp("waiting")
    (folder / "start.py").write_text(START)
    (folder / "passctrl.yaml").write_text(
        WAITING.format(port=port, operations=free_port(), backend=backend.getsockname()[1])
    )
    process = subprocess.Popen(
        [sys.executable, "start.py", "passctrl.yaml"], cwd=folder, stderr=subprocess.DEVNULL
    )
    try:
        assert answers(port, process, target="/app/auth")
        yield port, process
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.usefixtures("decided_by")
def test_a_passctrl_that_is_killed_while_it_decides_lets_nobody_in(
    start: Start,
    application: Application,
    backend: socket.socket,
    waiting: tuple[int, subprocess.Popen[bytes]],
) -> None:
    port, process = waiting
    proxies = [start(name, port) for name in KINDS]
    with ThreadPoolExecutor(len(proxies)) as at_once:
        asked = [at_once.submit(tried, proxy.port, "/admin", ALICE) for proxy in proxies]
        connections = [backend.accept()[0] for _ in proxies]
        for pid in workers(process):
            os.kill(pid, signal.SIGKILL)
        # A proxy may ask once more: it hears that the backend does not answer.
        statuses = [answer and answer.status for answer in (one.result() for one in asked)]
    for connection in connections:
        connection.close()

    assert {status for status in statuses if status} <= {401, 403, 500, 502, 503, 504}
    assert application.received == []
