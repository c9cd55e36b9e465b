"""What each proxy says is read as the client's request, and nothing else is believed.

The names of cases are those of published bypasses where there is one.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from gatekeeper.forwardauth.config.checks import MOUNTS
from gatekeeper.forwardauth.dialects import DIALECTS, Mount, mount
from gatekeeper.forwardauth.model import Answer, OriginalRequest, Outcome, RawRequest, Rejected
from gatekeeper.forwardauth.request.reading import Reading
from gatekeeper.forwardauth.request.trust import TrustedPeers

PROXY = "10.0.0.1"
TRUSTED = TrustedPeers([ip_network("10.0.0.0/8")])
READING = Reading(
    trusted=TRUSTED,
    guarded=frozenset({b"authorization", b"cookie", b"host", b"x-api-key", b"remote-groups"}),
)
DEVELOPMENT = Reading(trusted=TRUSTED, development_mode=True)

FORWARDED = [
    (b"x-forwarded-method", b"GET"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"app.example"),
    (b"x-forwarded-uri", b"/orders/7?page=2"),
    (b"x-forwarded-for", b"203.0.113.9"),
]
INGRESS = [
    (b"x-original-method", b"GET"),
    (b"x-original-url", b"https://app.example/orders/7?page=2"),
    (b"x-forwarded-for", b"203.0.113.9"),
    (b"x-real-ip", b"203.0.113.9"),
]
ENVOY = [
    (b"host", b"app.example"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-for", b"203.0.113.9"),
]
SAID = {"ingress-nginx": INGRESS, "envoy": ENVOY}
CASES = [(name, SAID.get(name, FORWARDED)) for name in DIALECTS]

Headers = list[tuple[bytes, bytes]]


def read(
    name: str,
    headers: Headers,
    *,
    reading: Reading = READING,
    peer: str = PROXY,
    method: str = "GET",
    target: bytes = b"/orders/7?page=2",
) -> OriginalRequest | Rejected:
    return DIALECTS[name].read(RawRequest(method, target, headers, peer), reading)


def understood(*args: Any, **options: Any) -> OriginalRequest:
    original = read(*args, **options)
    assert isinstance(original, OriginalRequest), original
    return original


def refused(*args: Any, **options: Any) -> Rejected:
    rejected = read(*args, **options)
    assert isinstance(rejected, Rejected), rejected
    return rejected


def without(headers: Headers, name: bytes) -> Headers:
    return [header for header in headers if header[0] != name]


def with_value(headers: Headers, name: bytes, value: bytes) -> Headers:
    return [*without(headers, name), (name, value)]


@pytest.mark.parametrize(("name", "headers"), CASES)
def test_each_dialect_tells_the_same_request(name: str, headers: Headers) -> None:
    original = understood(name, [*headers, (b"accept", b"*/*")])

    assert original == OriginalRequest(
        method="GET",
        scheme="https",
        host="app.example",
        port=None,
        path="/orders/7",
        raw_path="/orders/7",
        raw_query="page=2",
        fields={b"accept": b"*/*"},
        repeated={},
        client="203.0.113.9",
        proxied=True,
    )


@pytest.mark.parametrize(
    ("name", "headers", "missing"),
    [
        pytest.param(name, headers, header, id=f"{name} {header.decode()}")
        for name, headers in CASES
        for header, _ in headers
        if header != b"x-real-ip"
    ],
)
def test_a_missing_header_is_never_made_up_for(name: str, headers: Headers, missing: bytes) -> None:
    """CVE-2025-48865: the proxy was made to drop it. CVE-2026-40575: another one is believed."""
    others = [header for each in (FORWARDED, INGRESS, ENVOY) for header in each]
    extra = [each for each in others if each[0] not in DIALECTS[name].headers]

    assert refused(name, without([*headers, *dict(extra).items()], missing)).status == 400


@pytest.mark.parametrize(("name", "headers"), CASES)
def test_a_header_of_another_dialect_is_ignored_and_removed(name: str, headers: Headers) -> None:
    """CVE-2026-35051: X-Forwarded-Prefix of a client survived."""
    foreign = [
        (header, b"/evil")
        for header in (
            b"x-original-url",
            b"x-original-method",
            b"x-original-uri",
            b"x-forwarded-uri",
            b"x-forwarded-method",
            b"x-forwarded-host",
            b"x-forwarded-prefix",
            b"x-forwarded-user",
            b"x-real-ip",
            b"x-rewrite-url",
            b"x-envoy-original-path",
        )
        if header not in DIALECTS[name].headers
    ]

    original = understood(name, [*without(headers, b"x-real-ip"), *foreign])

    assert (original.path, original.host, original.fields) == ("/orders/7", "app.example", {})


SAYING = [*(name for name, _ in [*FORWARDED, *INGRESS]), b"x-forwarded-port", b"forwarded"]


@pytest.mark.parametrize("header", [name.decode() for name in SAYING])
@pytest.mark.parametrize("name", DIALECTS)
def test_a_stranger_is_refused_whatever_it_says(name: str, header: str) -> None:
    """CVE-2026-40575, GHSA-vhr5-ggp3-qq85: each header by itself, and none at all."""
    said = [*SAID.get(name, FORWARDED), (header.encode(), b"/public")]

    assert refused(name, said, peer="203.0.113.66").status == 403
    assert refused(name, [(header.encode(), b"/public")], peer="203.0.113.66").status == 403
    assert refused(name, [], peer="203.0.113.66").status == 403


def test_by_default_nobody_is_trusted() -> None:
    for peer in ("127.0.0.1", "::1", "unix", PROXY):
        assert (
            refused("nginx", FORWARDED, peer=peer, reading=Reading(trusted=TrustedPeers([]))).status
            == 403
        )


@pytest.mark.parametrize("name", DIALECTS)
def test_in_development_a_stranger_is_taken_as_the_client_and_its_claims_are_stripped(
    name: str,
) -> None:
    said = [*FORWARDED, *INGRESS[:2], (b"forwarded", b"for=192.0.2.1"), (b"accept", b"*/*")]

    original = understood(
        name,
        [(b"host", b"localhost:8080"), *said],
        reading=DEVELOPMENT,
        peer="203.0.113.66",
        method="PUT",
        target=b"/?a=b",
    )

    assert original.method == "PUT"
    assert (original.scheme, original.host, original.port) == ("http", "localhost", 8080)
    assert (original.path, original.raw_query) == ("/", "a=b")
    assert (original.client, original.proxied) == ("203.0.113.66", False)
    assert original.fields == {b"accept": b"*/*"}


def test_in_development_a_trusted_proxy_is_believed_and_a_request_is_still_read_strictly() -> None:
    assert understood("nginx", FORWARDED, reading=DEVELOPMENT).proxied
    stranger = {"reading": DEVELOPMENT, "peer": "203.0.113.66"}
    assert refused("nginx", [], **stranger).status == 400
    assert refused("nginx", [(b"host", b"a"), (b"host", b"b")], **stranger).status == 400


@pytest.mark.parametrize(
    ("header", "value"),
    [
        pytest.param("x-forwarded-method", b"POST", id="method"),
        pytest.param("x-forwarded-proto", b"http", id="CVE-2026-35051 proto"),
        pytest.param("x-forwarded-host", b"b.example", id="host"),
        pytest.param("x-forwarded-uri", b"/public", id="uri"),
        pytest.param("authorization", b"Bearer b", id="CVE-2021-32777 authorization"),
        pytest.param("host", b"b.example", id="host of the message"),
    ],
)
def test_a_header_that_decides_stands_once(header: str, value: bytes) -> None:
    name = header.encode()
    twice = [*FORWARDED, (b"authorization", b"Bearer a"), (b"host", b"gatekeeper"), (name, value)]

    assert refused("nginx", twice).status == 400


@pytest.mark.parametrize(
    "twin",
    [
        "x_forwarded_proto",
        "x-forwarded_proto",
        "x_forwarded_uri",
        "x_real_ip",
        "x_original_url",
        "x_envoy_original_path",
        "remote_groups",
        "remote.groups",
        "x_api-key",
        "authori_zation",
    ],
)
def test_a_twin_of_a_guarded_name_is_refused(twin: str) -> None:
    """CVE-2026-39858, CVE-2025-64484, CVE-2026-52845: `_` and `-` become one name later."""
    rejected = read("nginx", [*FORWARDED, (twin.encode(), b"x")])

    assert isinstance(rejected, Rejected) == (twin != "authori_zation")


def test_a_name_with_underscores_that_is_no_twin_is_a_header_like_others() -> None:
    assert understood("nginx", [*FORWARDED, (b"x_trace", b"1")]).fields == {b"x_trace": b"1"}


@pytest.mark.parametrize(
    "listed",
    [
        "x-forwarded-host",
        "X-Forwarded-Uri",
        "x-original-url",
        "authorization",
        "cookie",
        "remote-groups",
    ],
)
def test_a_connection_header_that_names_a_header_that_counts_is_refused(listed: str) -> None:
    """CVE-2025-48865: the proxy drops what a client's Connection header names."""
    said = [*FORWARDED, (b"connection", f"close, {listed}".encode())]

    assert refused("nginx", said).status == 400


def test_hop_by_hop_headers_are_no_fields() -> None:
    hops = [
        (b"connection", b"keep-alive, x-once"),
        (b"x-once", b"1"),
        (b"te", b"trailers"),
        (b"upgrade", b"websocket"),
        (b"content-length", b"0"),
        (b"host", b"gatekeeper:8080"),
    ]

    assert understood("nginx", [*FORWARDED, *hops, (b"accept", b"a")]).fields == {b"accept": b"a"}
    assert understood("nginx", [*FORWARDED, (b"connection", b"close"), (b"te", b"a")]).fields == {}


def test_values_of_a_repeated_header_are_all_there() -> None:
    """CVE-2021-32777: only the last one was judged."""
    twice = [(b"x-role", b"a"), (b"cookie", b"x=1"), (b"x-role", b"b"), (b"cookie", b"y=2")]

    original = understood("nginx", [*FORWARDED, *twice, (b"x-forwarded-for", b"198.51.100.4")])

    assert original.fields == {b"x-role": b"a, b", b"cookie": b"x=1; y=2"}
    assert original.repeated == {b"x-role": (b"a", b"b"), b"cookie": (b"x=1", b"y=2")}
    assert original.client == "198.51.100.4"


@pytest.mark.parametrize("byte", [0, 1, 8, 10, 11, 13, 27, 127])
def test_a_control_byte_in_a_value_is_refused(byte: int) -> None:
    """CVE-2019-9900 (NUL), obsolete line folding (CR LF)."""
    assert refused("nginx", [*FORWARDED, (b"x-a", b"a" + bytes([byte]) + b"b")]).status == 400


def test_a_value_may_have_a_tab_and_bytes_that_are_not_ascii() -> None:
    """CVE-2024-23324: bytes that are no UTF-8 must not break anything."""
    value = b"a\tb\xff\xfe\x80"

    assert understood("nginx", [*FORWARDED, (b"x-a", value)]).fields == {b"x-a": value}


@pytest.mark.parametrize(
    "name", [b"", b"a b", b"a:", b"X-Upper", b"\xc3\xa9", b"a\x00", b"a" * 129]
)
def test_a_name_that_is_no_token_is_refused(name: bytes) -> None:
    assert refused("nginx", [*FORWARDED, (name, b"x")]).status == 400


def test_headers_are_bounded_in_number_and_size() -> None:
    many = [(b"x-%d" % number, b"") for number in range(124)]
    assert refused("nginx", [*FORWARDED, *many]).status == 431
    assert understood("nginx", [*FORWARDED, *many[1:]]).proxied
    assert refused("nginx", [*FORWARDED, (b"x-a", b"a" * 65_536)]).status == 431


def test_forgetting_names_changes_nothing() -> None:
    reading = Reading(trusted=TRUSTED)
    for batch in range(30):
        strange = [(b"x-%d-%d" % (batch, number), b"") for number in range(60)]
        made_up = [(b"x-forwarded-%d-%d" % (batch, number), b"") for number in range(60)]
        original = understood("nginx", [*FORWARDED, *strange, *made_up], reading=reading)
        assert original.fields == dict(strange)
    assert len(reading.names.known) <= 1_024
    assert reading.names.dropped <= reading.names.known


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [(b"http", "http"), (b"https", "https"), (b"ws", "http"), (b"wss", "https")],
)
def test_a_websocket_begins_as_http(scheme: bytes, expected: str) -> None:
    said = with_value(FORWARDED, b"x-forwarded-proto", scheme)

    assert understood("traefik", said).scheme == expected


@pytest.mark.parametrize("scheme", [b"", b"HTTPS", b"https,http", b"ftp", b"https "])
def test_another_scheme_is_refused(scheme: bytes) -> None:
    assert refused("nginx", with_value(FORWARDED, b"x-forwarded-proto", scheme)).status == 400


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        (b"app.example", b"443", None),
        (b"app.example", b"8443", 8443),
        (b"app.example:8443", b"8443", 8443),
        (b"app.example:443", b"443", None),
    ],
)
def test_the_port_is_the_hosts_and_a_default_one_is_left_out(
    host: bytes, port: bytes, expected: int | None
) -> None:
    said = with_value(FORWARDED, b"x-forwarded-host", host)

    assert understood("traefik", [*said, (b"x-forwarded-port", port)]).port == expected


@pytest.mark.parametrize("port", [b"", b"0", b"65536", b"443, 80", b"+443", b"444", b"\xb2"])
def test_a_port_that_is_malformed_or_not_the_hosts_is_refused(port: bytes) -> None:
    said = with_value(FORWARDED, b"x-forwarded-host", b"app.example:443")

    assert refused("traefik", [*said, (b"x-forwarded-port", port)]).status == 400
    assert understood("nginx", [*said, (b"x-forwarded-port", port)]).port is None


@pytest.mark.parametrize(
    ("xff", "forwarded", "client"),
    [
        (b"203.0.113.9", b"for=203.0.113.9", "203.0.113.9"),
        (None, b'for="[2001:DB8::1]:4711";proto=https, for=10.0.0.2', "2001:db8::1"),
        (b"203.0.113.9", None, "203.0.113.9"),
        (b"203.0.113.9", b"for=203.0.113.8", None),
        (b"203.0.113.9", b"for=unknown", None),
        (b"unknown", b"for=unknown", None),
        (None, None, None),
    ],
)
def test_forwarded_and_x_forwarded_for_name_one_client_in_the_generic_dialect(
    xff: bytes | None, forwarded: bytes | None, client: str | None
) -> None:
    said = without(FORWARDED, b"x-forwarded-for")
    said += [(b"x-forwarded-for", xff)] if xff else []
    said += [(b"forwarded", forwarded)] if forwarded else []

    if client is None:
        assert refused("auth", said).status == 400
    else:
        assert understood("auth", said).client == client


@pytest.mark.parametrize("method", ["get", "Post", "pUT", "", "G T", "GET\x00", "É", "A" * 33])
def test_a_method_in_disguise_is_refused(method: str) -> None:
    said = with_value(FORWARDED, b"x-forwarded-method", method.encode("latin-1"))
    assert refused("nginx", said).status == 400
    assert refused("envoy", ENVOY, method=method).status == 400


@pytest.mark.parametrize("method", ["GET", "DELETE", "PURGE", "propfind", "VERSION-CONTROL"])
def test_a_method_is_read_as_it_was_sent_and_no_header_overrides_it(method: str) -> None:
    said = with_value(FORWARDED, b"x-forwarded-method", method.encode())
    override = (b"x-http-method-override", b"GET")

    original = understood("nginx", [*said, override])

    assert original.method == method
    assert original.fields == dict([override])


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(b"https://app.example?/../admin", id="CVE-2026-48710 host with a query"),
        pytest.param(b"https://app.example/abc?x=/admin#y", id="fragment"),
        pytest.param(b"https://app.example", id="no path"),
        pytest.param(b"https://app.example@evil/", id="CVE-2026-54282 userinfo"),
        pytest.param(b"//app.example/", id="no scheme"),
        pytest.param(b"/orders", id="path alone"),
        pytest.param(b"https:///orders", id="no host"),
        pytest.param(b"https://app.example//orders", id="empty segment"),
    ],
)
def test_an_original_url_that_is_no_whole_url_is_refused(url: bytes) -> None:
    assert refused("ingress-nginx", with_value(INGRESS, b"x-original-url", url)).status == 400


@pytest.mark.parametrize(
    "target", [b"", b"?x=1", b"*", b"x/y", b"//orders", b"/../other/orders", b"https://a/b"]
)
def test_envoys_request_line_is_refused_without_a_path_of_one_spelling(target: bytes) -> None:
    """CVE-2026-33186: a `:path` without a slash."""
    assert refused("envoy", ENVOY, target=target).status == 400


def test_no_user_agent_and_no_path_is_magic() -> None:
    """CVE-2026-34457: a health checker's user agent was let through."""
    probe = (b"user-agent", b"kube-probe/1.30")

    assert understood("nginx", [*FORWARDED, probe]).fields == dict([probe])
    for target in (b"/healthz", b"/readyz", b"/metrics", b"/", b"", b"*"):
        assert mount(target) is None


def test_no_endpoint_may_have_the_name_of_a_mount() -> None:
    assert DIALECTS.keys() == MOUNTS


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/api/auth", Mount("auth", "api", b"/")),
        (b"/api/auth?a=b?c", Mount("auth", "api", b"/?a=b?c")),
        (b"/nginx/api", Mount("nginx", "api", b"/")),
        (b"/ingress-nginx/api", Mount("ingress-nginx", "api", b"/")),
        (b"/nginx/auth", Mount("nginx", "auth", b"/")),
        (b"/envoy/api/orders/7?page=2", Mount("envoy", "api", b"/orders/7?page=2")),
        (b"/envoy/api//x", Mount("envoy", "api", b"//x")),
        (b"/envoy/api", Mount("envoy", "api", b"")),
        (b"/envoy/api?x=/y", Mount("envoy", "api", b"?x=/y")),
        (b"/envoy/auth/x", Mount("envoy", "auth", b"/x")),
        (b"/auth/auth", Mount("auth", "auth", b"/")),
        (b"/auth/api", None),
        (b"/api/AUTH", None),
        (b"/NGINX/api", None),
        (b"/api/auth/", None),
        (b"/nginx/api/", None),
        (b"/nginx/", None),
        (b"/nginx", None),
        (b"//auth", None),
        (b"/api//auth", None),
        (b"/%61pi/%61uth", None),
        (b"api/auth", None),
        (b"http://h/api/auth", None),
    ],
)
def test_a_mount_is_compared_byte_by_byte(target: bytes, expected: Mount | None) -> None:
    assert mount(target) == expected


WHOLE = ["auth", "traefik", "caddy", "envoy", "haproxy"]
BEARABLE = ["nginx", "ingress-nginx"]
NO_STORE = ("cache-control", "no-store")


@pytest.mark.parametrize("name", DIALECTS)
def test_a_pass_is_200_without_a_body_and_carries_every_identity_header(name: str) -> None:
    """Caddy CVE-2026-30851: an identity header that is empty is sent all the same."""
    answer = Answer(Outcome.PASS, 204, (("x-user", "ada"), ("x-roles", "")), b"body", "/elsewhere")

    reply = DIALECTS[name].write(answer)

    assert reply == (200, (("x-user", "ada"), ("x-roles", ""), NO_STORE), b"")


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_a_refusal_goes_out_as_it_is_where_the_proxy_can_carry_it(name: str, status: int) -> None:
    headers = (("www-authenticate", 'Basic realm="a"'), ("www-authenticate", 'Bearer realm="b"'))
    answer = Answer(Outcome.FAIL, status, headers, b"no", reason="canary")

    assert DIALECTS[name].write(answer) == (status, (*headers, NO_STORE), b"no")


@pytest.mark.parametrize("name", WHOLE)
def test_a_redirect_goes_out_as_it_is_where_the_proxy_can_carry_it(name: str) -> None:
    answer = Answer(Outcome.FAIL, 303, (), b"", "https://login.example/?rd=%2F")

    assert DIALECTS[name].write(answer) == (
        303,
        (("location", "https://login.example/?rd=%2F"), NO_STORE),
        b"",
    )


@pytest.mark.parametrize("name", BEARABLE)
@pytest.mark.parametrize(
    ("status", "carried"),
    [
        (400, 403),
        (401, 401),
        (403, 403),
        (404, 403),
        (429, 403),
        (431, 403),
        (500, 500),
        (503, 503),
    ],
)
def test_nginx_gets_the_statuses_that_auth_request_carries(
    name: str, status: int, carried: int
) -> None:
    headers = (("www-authenticate", 'Basic realm="a"'), ("www-authenticate", 'Bearer realm="b"'))

    reply = DIALECTS[name].write(Answer(Outcome.FAIL, status, headers, b"no", reason="canary"))

    assert reply == (carried, (*headers, NO_STORE), b"")


@pytest.mark.parametrize("name", BEARABLE)
def test_nginx_gets_a_redirect_as_401_with_the_place_in_a_header(name: str) -> None:
    reply = DIALECTS[name].write(Answer(Outcome.FAIL, 302, (), b"", "https://login.example/"))

    assert reply == (401, (("x-passctrl-location", "https://login.example/"), NO_STORE), b"")


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("status", [100, 200, 204, 226, 302])
def test_what_is_no_pass_never_looks_like_one(name: str, status: int) -> None:
    """CVE-2026-25748: a handler that failed answered with its default, 200."""
    assert DIALECTS[name].write(Answer(Outcome.ERROR, status)).status >= 400
    redirect = Answer(Outcome.FAIL, status, location="/login")
    assert DIALECTS[name].write(redirect).status >= 300


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
@pytest.mark.parametrize(
    "value", ["a\r\nx-role: admin", "a\nb", "a\x00", "a\x7f", "Łukasz", "\u2028"]
)
def test_a_value_that_has_no_place_in_a_header_is_an_error(
    name: str, outcome: Outcome, value: str
) -> None:
    """CVE-2023-27493: what a client sent went into a header unchecked."""
    reply = DIALECTS[name].write(Answer(outcome, 403, (("x-user", value),)))

    assert reply == (500, (NO_STORE,), b"")


@pytest.mark.parametrize("name", DIALECTS)
def test_a_location_is_checked_like_any_value(name: str) -> None:
    reply = DIALECTS[name].write(Answer(Outcome.FAIL, 302, (), b"", "/a\r\nset-cookie: a=b"))

    assert reply.status == 500


def test_what_came_in_as_bytes_goes_out_as_the_same_bytes() -> None:
    value = bytes(range(0x80, 0x100)).decode("latin-1") + "\ta"

    assert DIALECTS["nginx"].write(Answer(Outcome.PASS, 200, (("x-a", value),))).headers[0] == (
        "x-a",
        value,
    )


@pytest.mark.parametrize(
    ("cookie", "refused"),
    [
        (b"a=1,a=2", True),
        (b"x=1; a=good; y=2,a=evil; z=3", True),
        (b"a=1,2,3; b=4", False),
        (b"a=1; b=2", False),
    ],
)
def test_cookies_that_envoy_joined_by_a_comma_are_refused(cookie: bytes, *, refused: bool) -> None:
    """An application gets two Cookie headers, and may take the other one."""
    found = read("envoy", [*ENVOY, (b"cookie", cookie)])

    assert isinstance(found, Rejected) is refused
