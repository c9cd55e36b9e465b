"""Where a bundle may come from, without a network."""

from __future__ import annotations

import pytest

from gatekeeper.terminals.errors import BundleRefusedError
from gatekeeper.terminals.runner.bundles.places import matches, next_place, place_of
from gatekeeper.terminals.settings import BundleSettings

SETTINGS = BundleSettings(
    allowed_hosts=("files.example", "*.cdn.example", "odd.example:8443", "127.0.0.1", "localhost"),
    allow_http_on_loopback=True,
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://files.example/a.zip", "files.example"),
        ("https://FILES.example:443/a.zip?x=1#part", "files.example"),
        ("https://one.cdn.example/a", "one.cdn.example"),
        ("https://a.b.cdn.example/a", "a.b.cdn.example"),
        ("https://odd.example:8443/a", "odd.example:8443"),
        ("http://127.0.0.1:8000/a", "127.0.0.1:8000"),
    ],
)
def test_hosts_of_the_list_may_be_asked(url: str, shown: str) -> None:
    assert place_of(url, SETTINGS).shown == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/a",
        "https://xcdn.example/a",
        "https://odd.example/a",
        "http://files.example/a",
        "https://files.example:444/a",
    ],
)
def test_others_may_not(url: str) -> None:
    with pytest.raises(BundleRefusedError):
        place_of(url, SETTINGS)


@pytest.mark.parametrize("location", ["http://127.0.0.1:9/x", "https://localhost/x"])
def test_a_server_elsewhere_sends_nobody_to_this_machine(location: str) -> None:
    """Though both are in the list, and this machine may be asked by who says so."""
    start = place_of("https://files.example/a", SETTINGS)
    with pytest.raises(BundleRefusedError, match="this machine"):
        next_place(start, location, SETTINGS)


def test_a_redirect_may_be_relative() -> None:
    start = place_of("https://files.example/a/b.zip?x", SETTINGS)
    assert next_place(start, "../c.zip", SETTINGS).target == "/c.zip"


def test_a_wildcard_is_no_match_for_its_parent() -> None:
    place = place_of("https://one.cdn.example/a", SETTINGS)
    assert matches(place, ("*.cdn.example",))
    assert not matches(place, ("*.one.cdn.example", "cdn.example", "*.example:8443"))
