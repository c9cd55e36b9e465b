"""Which addresses are refused, and which link is the next page."""

from ipaddress import ip_network

import pytest
from yarl import URL

from gatekeeper.platform.outbound.guard import AddressGuard
from gatekeeper.platform.outbound.links import next_page, origin, parse_url

GUARD = AddressGuard([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "fe80::1", "fe80::1%eth0",  # noqa: S104
        "fd00:ec2::254", "224.0.0.1", "239.1.2.3", "ff02::1", "255.255.255.255",
        "10.1.2.3", "2001:db8::7",
        "::ffff:169.254.169.254", "::ffff:10.1.2.3", "::ffff:0.0.0.0",
        "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "2002:a9fe:a9fe::1",
        "127.1", "2130706433", "0x7f000001", "", "example.com",
    ],
)  # fmt: skip
def test_an_address_is_refused_whatever_the_url_says(address: str) -> None:
    assert not GUARD.permits(address, host="backend.example")
    assert not GUARD.permits(address, host=address)
    assert not GUARD.permits(address, host="localhost")


@pytest.mark.parametrize("address", ["192.0.2.1", "172.16.0.1", "::ffff:192.0.2.1", "2001:4860::1"])
def test_any_other_address_is_permitted(address: str) -> None:
    assert GUARD.permits(address, host="backend.example")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_for_a_url_that_says_so_itself(address: str) -> None:
    for host in ("localhost", "LocalHost", "127.0.0.1", "127.0.0.2", "::1"):
        assert GUARD.permits(address, host=host)
    for host in ("backend.example", "localhost.example", "evil.localhost", "::ffff:127.0.0.1"):
        assert not GUARD.permits(address, host=host)


def test_loopback_can_be_denied_as_well() -> None:
    assert not AddressGuard([ip_network("127.0.0.0/8")]).permits("127.0.0.1", host="127.0.0.1")


HERE = URL("https://api.example/things?page=1", encoded=True)
NEXT = "https://api.example/things?page=2"


@pytest.mark.parametrize(
    "link",
    [
        f'<{NEXT}>; rel="next"',
        f"<{NEXT}>; rel=next",
        f"<{NEXT}>;rel=next",
        f"<{NEXT}> ; REL = NEXT",
        f'<{NEXT}>; rel="last next"',
        f'<{NEXT}>; title="a, <b>; rel=\\"prev\\""; rel="next"',
        f'<https://api.example/a,b;c>; rel="prev", <{NEXT}>; rel="next"',
        f'<https://api.example/1>; rel="prev" , , <{NEXT}>; rel="next"',
        '<?page=2>; rel="next"',
        '</things?page=2#part>; rel="next"',
        '<things?page=2>; rel="next"',
        f"<{NEXT}>; rel=next; rel=prev",
    ],
)
def test_the_next_page_is_found(link: str) -> None:
    assert next_page(HERE, link) == NEXT


@pytest.mark.parametrize(
    "link",
    [
        "",
        "nonsense",
        f'{NEXT}; rel="next"',
        f'<{NEXT}>; rel="prev"',
        f'<{NEXT}>; rel="nextish"',
        f'<{NEXT}>; rel="prev"; rel="next"',
        f'<{NEXT}>; title="rel=next"',
        f'<{NEXT}>; rel="next"; anchor="https://api.example/other"',
        f'<{NEXT}>; rel="next',
        f'<{NEXT}; rel="next"',
        '"' * 8_000,
    ],
)
def test_what_is_no_link_to_the_next_page_is_not_followed(link: str) -> None:
    assert next_page(HERE, link) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "/path", "ftp://x/", "http://", "http:///path", "http://x:99999/", "http://x:0/",
        "http://user@x/", "http://user:pw@x/", "http://:pw@x/", "http://x/\r\nHost: y",
        "http://x/ y", "http://x\\@y/", "http://x/é", "http://x/" + "a" * 8_000, "//x/",
    ],
)  # fmt: skip
def test_a_url_that_could_be_read_in_two_ways_is_not_called(text: str) -> None:
    assert parse_url(text) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://x/", "http://x:80/y", True),
        ("https://X/", "https://x:443/y", True),
        ("http://x/", "https://x/", False),
        ("http://x/", "http://x:81/", False),
        ("http://x/", "http://x.y/", False),
        ("http://[::1]/", "http://[::1]:80/", True),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    here, there = parse_url(one), parse_url(other)

    assert here is not None
    assert there is not None
    assert (origin(here) == origin(there)) is same
