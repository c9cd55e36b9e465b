"""How an endpoint reads, and that nothing that can be sent gets past it unread."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.forwardauth.config import Endpoint
from gatekeeper.forwardauth.dialects import DIALECTS, mount
from gatekeeper.forwardauth.model import OriginalRequest, RawRequest, Rejected
from gatekeeper.forwardauth.plan import VIEWS
from gatekeeper.forwardauth.request.reading import Reading, reading_of
from gatekeeper.forwardauth.request.trust import TrustedPeers
from gatekeeper.forwardauth.vocabulary import WITHOUT_NUL

PATIENT = settings(deadline=None)
"""A busy machine is no failure."""

ENDPOINT: dict[str, Any] = {
    "authentication": {"allow": {"authorization": ["bearer"], "header": ["X-Api-Key"]}},
    "forwardProxyPolicy": {"trustedProxyIPs": ["10.0.0.0/8", "unix"]},
    "forwardRequestPolicy": {"encodedSlashes": "keep"},
    "rules": [{"name": "r"}],
    "responsePolicy": {"pass": {"headers": {"Remote-User": None, "X-Roles": "{{ 1 }}"}}},
}

SAID = [
    (b"host", b"a"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-for", b"203.0.113.9"),
]


def test_an_endpoint_says_whom_it_believes_and_what_it_guards() -> None:
    reading = reading_of(Endpoint.model_validate(ENDPOINT))

    assert reading.trusted.is_trusted("10.1.1.1")
    assert reading.trusted.is_trusted("unix")
    assert not reading.trusted.is_trusted("127.0.0.1")
    assert reading.keep_encoded_slashes
    assert not reading.development_mode
    assert reading.guarded == {
        b"authorization",
        b"cookie",
        b"host",
        b"x-api-key",
        b"remote-user",
        b"x-roles",
    }
    assert {b"authorization", b"host", b"x-api-key", b"x-forwarded-uri"} <= reading.single
    assert not {b"x-forwarded-for", b"forwarded", b"cookie"} & reading.single


def test_by_default_an_endpoint_believes_nobody_and_refuses_encoded_slashes() -> None:
    reading = reading_of(
        Endpoint.model_validate({**ENDPOINT, "forwardProxyPolicy": {}, "forwardRequestPolicy": {}})
    )

    assert not any(map(reading.trusted.is_trusted, ("10.1.1.1", "127.0.0.1", "::1", "unix")))
    assert not reading.keep_encoded_slashes


@pytest.mark.parametrize("name", ["remote_user", "x_roles", "x_api_key", "x_api-key"])
def test_its_credentials_and_identity_headers_have_no_twins(name: str) -> None:
    reading = reading_of(Endpoint.model_validate(ENDPOINT))
    raw = RawRequest("GET", b"/", [*SAID, (b"x_other", b"x")], "10.1.1.1")
    twin = raw._replace(headers=[*SAID, (name.encode(), b"x")])

    assert isinstance(DIALECTS["envoy"].read(raw, reading), OriginalRequest)
    assert isinstance(DIALECTS["envoy"].read(twin, reading), Rejected)


def test_its_credentials_stand_once() -> None:
    """CVE-2021-32777: two credentials, and another one is judged than the one that counts."""
    reading = reading_of(Endpoint.model_validate(ENDPOINT))
    said = [*SAID, (b"x-api-key", b"1")]
    once = RawRequest("GET", b"/", said, "10.1.1.1")
    twice = once._replace(headers=[*said, (b"x-api-key", b"2")])

    assert isinstance(DIALECTS["envoy"].read(once, reading), OriginalRequest)
    assert isinstance(DIALECTS["envoy"].read(twice, reading), Rejected)


TOLD = sorted({name for dialect in DIALECTS.values() for name in dialect.headers})
VALUES = st.sampled_from(
    [
        b"GET",
        b"https",
        b"app.example",
        b"203.0.113.9",
        b"/a",
        b"https://a.example/a",
        b"for=1.2.3.4",
        b"443",
        b"/..",
        b"//",
        b"a=\0",
    ]
) | st.binary(max_size=30)
URIS = st.sampled_from([b"/a", b"/a/../b", b"/a%2fb", b"/..;/a", b"//a", b"/a%00"]) | st.binary(
    max_size=20
).map(b"/".__add__)
SOUND = st.builds(
    lambda uri: [
        (b"host", b"app.example"),
        (b"x-forwarded-method", b"GET"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"app.example"),
        (b"x-forwarded-uri", uri),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-original-method", b"GET"),
        (b"x-original-url", b"https://app.example" + uri),
    ],
    URIS,
)
ODD = st.lists(
    st.tuples(
        st.sampled_from([*TOLD, b"connection", b"cookie", b"x"]) | st.binary(max_size=12), VALUES
    ),
    max_size=14,
)
HEADERS = st.builds(lambda sound, odd: [*dict([*sound, *odd[:2]]).items(), *odd[2:]], SOUND, ODD)
TARGETS = st.sampled_from([b"/", b"/a/b?c", b"/%2e%2e/", b"/a%2Fb", b"*", b"//"]) | st.binary(
    max_size=30
)
READINGS = [
    Reading(
        trusted=TrustedPeers([ip_network("10.0.0.0/8")]),
        development_mode=mode,
        keep_encoded_slashes=keep,
    )
    for mode in (False, True)
    for keep in (False, True)
]


RAW = st.builds(
    RawRequest,
    st.sampled_from(["GET", "get", "PURGE", ""]),
    TARGETS,
    HEADERS,
    st.sampled_from(["10.0.0.1", "203.0.113.9", "unix", ""]),
)


def texts(value: Any) -> str:
    if isinstance(value, dict):
        return texts([*value, *value.values()])
    return "".join(map(texts, value)) if isinstance(value, list) else str(value)


@PATIENT
@given(st.sampled_from(sorted(DIALECTS)), st.sampled_from(READINGS), RAW)
def test_whatever_arrives_is_understood_in_one_way_or_refused(
    name: str, reading: Reading, raw: RawRequest
) -> None:
    original = DIALECTS[name].read(raw, reading)

    if isinstance(original, Rejected):
        assert 400 <= original.status < 500
        return
    assert original.proxied == (raw.peer == "10.0.0.1")
    assert original.proxied or reading.development_mode
    assert original.path.startswith("/")
    assert not re.search(r"[\x00-\x1f\x7f\\]|//", original.path)
    assert not {".", ".."} & set(original.path.replace("%2F", "/").split("/"))
    assert original.scheme in {"http", "https"}
    assert re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", original.host)
    assert not [
        each
        for each in original.fields
        if each.startswith((b"x-forwarded-", b"x-original-", b"x-envoy-"))
    ]
    assert not {b"host", b"forwarded", b"x-real-ip", b"connection"} & original.fields.keys()
    assert original.repeated.keys() <= original.fields.keys()
    for view in VIEWS.keys() & WITHOUT_NUL:
        assert "\0" not in texts(VIEWS[view](original)), view


@PATIENT
@given(
    st.binary(max_size=60)
    | st.from_regex(rb"/(envoy|nginx|auth|api)/[a-z/?%.]{0,20}", fullmatch=True)
)
def test_a_mount_never_raises_and_names_what_stands_in_the_target(target: bytes) -> None:
    found = mount(target)
    if found is not None:
        assert found.dialect in DIALECTS
        parts = {found.dialect, found.endpoint}
        assert parts == set(target.partition(b"?")[0].decode("latin-1").split("/")[1:3])
