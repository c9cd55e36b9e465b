"""The client is the first hop from the right that is no trusted proxy."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.forwardauth.model import Rejected
from gatekeeper.forwardauth.request.trust import MAX_HOPS, MAX_REMEMBERED_HOPS, TrustedPeers

PATIENT = settings(deadline=None)
"""A busy machine is no failure."""

PEERS = TrustedPeers(
    [ip_network("10.0.0.0/8"), ip_network("2001:db8:a::/48"), ip_network("192.0.2.7/32")]
)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8:a::1", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("11.0.0.1", False),
        ("::1", False),
        ("127.0.0.1", False),
        ("unix", False),
        ("", False),
        ("localhost", False),
        ("10.1.2.3.", False),
        ("010.1.2.3", False),
    ],
)
def test_a_peer_is_trusted_by_its_address(address: str, trusted: bool) -> None:
    assert PEERS.is_trusted(address) is trusted
    assert PEERS.is_trusted(address) is trusted


def test_a_socket_in_the_file_system_is_trusted_when_it_is_named() -> None:
    assert TrustedPeers(["unix"]).is_trusted("unix")
    assert not TrustedPeers(["unix"]).is_trusted("127.0.0.1")


def test_a_link_local_peer_is_known_without_its_zone() -> None:
    assert TrustedPeers([ip_network("fe80::/64")]).is_trusted("fe80::1%eth0")


CHAINS = {
    "one hop": (b"203.0.113.9", "203.0.113.9"),
    "what the client said before": (b"10.9.9.9, 203.0.113.9", "203.0.113.9"),
    "Heimdall 0.17.14 through proxies": (b"1.1.1.1, 203.0.113.9, 10.0.0.3,10.0.0.2", "203.0.113.9"),
    "an untrusted hop between": (b"203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
    "all of them trusted": (b"10.0.0.9, 10.0.0.2", "10.0.0.9"),
    "a port": (b"203.0.113.9:4711", "203.0.113.9"),
    "IPv6": (b"2001:DB8::1", "2001:db8::1"),
    "IPv6 in brackets": (b"[2001:db8::1]", "2001:db8::1"),
    "IPv6 in brackets with a port": (b"[2001:db8::0:1]:443, 10.0.0.2:80", "2001:db8::1"),
    "IPv4 in the clothes of IPv6": (b"203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
    "unknown where it is not believed": (b"unknown, 203.0.113.9", "203.0.113.9"),
    "anything where it is not believed": (b"\"';--\xff, 203.0.113.9", "203.0.113.9"),
    "unknown": (b"unknown", None),
    "hidden": (b"_hidden, 10.0.0.2", None),
    "empty": (b"", None),
    "empty hop": (b"203.0.113.9,", None),
    "empty hop between": (b"203.0.113.9,,10.0.0.2", None),
    "a name": (b"localhost", None),
    "leading zeros": (b"203.0.113.009", None),
    "a number": (b"3405803785", None),
    "a zone": (b"fe80::1%eth0", None),
    "brackets around IPv4": (b"[203.0.113.9]", None),
    "a bracket alone": (b"[2001:db8::1", None),
    "a port that is none": (b"203.0.113.9:http", None),
    "too many": (b"203.0.113.9" + b",10.0.0.1" * MAX_HOPS, None),
    "as many as may be": (b"203.0.113.9" + b",10.0.0.1" * (MAX_HOPS - 1), "203.0.113.9"),
}


@pytest.mark.parametrize(("chain", "client"), CHAINS.values(), ids=CHAINS)
def test_the_client_of_a_chain(chain: bytes, client: str | None) -> None:
    for _ in ("judged", "remembered"):
        found = PEERS.client(chain)
        assert (None if isinstance(found, Rejected) else found) == client


FORWARDED = {
    "token": (b"for=203.0.113.9", "203.0.113.9"),
    "any case": (b"FOR=203.0.113.9;Proto=https", "203.0.113.9"),
    "quoted": (b'for="203.0.113.9:80"', "203.0.113.9"),
    "quoted IPv6": (b'by=10.0.0.1 ; for="[2001:DB8::1]:4711"', "2001:db8::1"),
    "several": (b'for=1.1.1.1, for=203.0.113.9;proto=http, for="[2001:db8:a::2]"', "203.0.113.9"),
    "commas in quotes": (b'for=1.1.1.1;host="a,for=9.9.9.9;", for=203.0.113.9', "203.0.113.9"),
    "an element without for": (b"for=203.0.113.9, by=10.0.0.1", None),
    "unknown": (b"for=unknown", None),
    "hidden": (b"for=_secret, for=10.0.0.2", None),
    "twice in one element": (b"for=10.0.0.2;for=203.0.113.9", None),
    "an open quote": (b'for="203.0.113.9', None),
    "an open quote of the client": (b'for="1.1.1.1, for=203.0.113.9', None),
    "an escape": (b'for="\\203.0.113.9"', None),
    "no pair": (b"203.0.113.9", None),
    "empty": (b"", None),
    "empty element": (b"for=203.0.113.9,", None),
    "too many": (b"for=203.0.113.9" + b",for=10.0.0.1" * MAX_HOPS * 2, None),
}


@pytest.mark.parametrize(("value", "client"), FORWARDED.values(), ids=FORWARDED)
def test_the_client_of_forwarded(value: bytes, client: str | None) -> None:
    found = PEERS.client_of_forwarded(value)

    assert (None if isinstance(found, Rejected) else found) == client


def test_what_is_remembered_of_peers_and_hops_is_bounded() -> None:
    peers = TrustedPeers([ip_network("10.0.0.0/8")])
    for number in range(MAX_REMEMBERED_HOPS + 10):
        address = f"2001:db8::{number + 1:x}"
        assert not peers.is_trusted(address)
        assert peers.client(address.encode()) == address
    assert len(peers._hops) <= MAX_REMEMBERED_HOPS
    assert len(peers._peers) <= MAX_REMEMBERED_HOPS


@PATIENT
@given(st.binary(max_size=80), st.ip_addresses())
def test_nothing_left_of_the_client_changes_who_it_is(said: bytes, address: object) -> None:
    chain = said + f", {address}, 10.0.0.2".encode()
    peers = TrustedPeers([ip_network("10.0.0.2/32")])
    found = peers.client(chain)

    if chain.count(b",") < MAX_HOPS and str(address) != "10.0.0.2":
        assert found == str(getattr(address, "ipv4_mapped", None) or address)


@PATIENT
@given(st.binary(max_size=80))
def test_no_chain_makes_it_raise(chain: bytes) -> None:
    for found in (PEERS.client(chain), PEERS.client_of_forwarded(chain)):
        assert isinstance(found, Rejected | str)
