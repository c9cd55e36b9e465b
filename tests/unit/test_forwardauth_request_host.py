"""A host has one spelling, or it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.forwardauth.model import Rejected
from gatekeeper.forwardauth.request.host import read_host

PATIENT = settings(deadline=None)
"""A busy machine is no failure."""


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b"APP.Example", ("app.example", None), id="CVE-2026-42273 case"),
        pytest.param(b"app.example.", ("app.example", None), id="CVE-2026-48794 trailing dot"),
        (b"app.example.:8443", ("app.example", 8443)),
        (b"app.example:443", ("app.example", 443)),
        (b"localhost", ("localhost", None)),
        (b"my_service:80", ("my_service", 80)),
        (b"XN--caf-dma.example", ("xn--caf-dma.example", None)),
        (b"192.0.2.1:8080", ("192.0.2.1", 8080)),
        (b"[2001:DB8::0:1]", ("[2001:db8::1]", None)),
        (b"[::1]:8080", ("[::1]", 8080)),
        (b"1password.example", ("1password.example", None)),
        (
            b".".join([b"a" * 63] * 3) + b"." + b"b" * 61,
            (".".join(["a" * 63] * 3) + "." + "b" * 61, None),
        ),
    ],
)
def test_a_host_is_read_in_its_one_spelling(sent: bytes, expected: tuple[str, int | None]) -> None:
    assert read_host(sent) == expected


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"app.example/abc?x=", id="CVE-2026-48710 path"),
        pytest.param(b"app.example?x", id="query"),
        pytest.param(b"app.example#x", id="fragment"),
        pytest.param(b"app.example\\x", id="backslash"),
        pytest.param(b"user@app.example", id="userinfo"),
        pytest.param(b"user:pass@app.example:80", id="userinfo with a password"),
        pytest.param(b"app.example app.example", id="space"),
        pytest.param(b" app.example", id="leading space"),
        pytest.param(b"app.example\t", id="tab"),
        pytest.param(b"app.example, b.example", id="two hosts"),
        pytest.param(b"", id="empty"),
        pytest.param(b".", id="dot"),
        pytest.param(b"app..example", id="empty label"),
        pytest.param(b"app.example..", id="two trailing dots"),
        pytest.param(b".example", id="leading dot"),
        pytest.param("café.example".encode(), id="U-label"),
        pytest.param("ａpp.example".encode(), id="full width"),
        pytest.param(b"app%2eexample", id="percent"),
        pytest.param(b"app.example:", id="empty port"),
        pytest.param(b"app.example:0", id="port 0"),
        pytest.param(b"app.example:65536", id="port too high"),
        pytest.param(b"app.example:+80", id="signed port"),
        pytest.param(b"app.example:80:80", id="two ports"),
        pytest.param(b"2001:db8::1", id="IPv6 without brackets"),
        pytest.param(b"[2001:db8::1", id="open bracket"),
        pytest.param(b"[2001:db8::1]x", id="after the bracket"),
        pytest.param(b"[fe80::1%25eth0]", id="zone"),
        pytest.param(b"[:::]", id="no IPv6"),
        pytest.param(b"127.1", id="short IPv4"),
        pytest.param(b"2130706433", id="IPv4 as a number"),
        pytest.param(b"0x7f000001", id="IPv4 as hexadecimal"),
        pytest.param(b"0177.0.0.1", id="IPv4 as octal"),
        pytest.param(b"256.0.0.1", id="no IPv4"),
        pytest.param(b"a.0x7f", id="a number at the end"),
        pytest.param(b"a" * 64 + b".example", id="long label"),
        pytest.param(b".".join([b"a" * 63] * 4), id="long name"),
        pytest.param(b"a" * 1000, id="long"),
    ],
)
def test_a_host_that_can_be_read_in_two_ways_is_refused(sent: bytes) -> None:
    assert isinstance(read_host(sent), Rejected)


@PATIENT
@given(st.binary(max_size=40) | st.from_regex(rb"[A-Za-z0-9.\[\]:_-]{1,40}", fullmatch=True))
def test_a_host_that_is_understood_reads_the_same_again(sent: bytes) -> None:
    host = read_host(sent)
    if not isinstance(host, Rejected):
        assert read_host(host.name.encode()) == (host.name, None)
        assert host.name == host.name.lower()
