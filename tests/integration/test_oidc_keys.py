"""An issuer's keys over a real socket: cached, fetched anew when they must be, never per request."""

from collections.abc import Iterator

import pytest
from joserfc.jwk import RSAKey

from fakes.ci_issuer import CiIssuer
from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.keysource import (
    FRESH_SECONDS,
    MAX_DOCUMENT_BYTES,
    REFRESH_PAUSE_SECONDS,
    RemoteKeys,
)

KEY, NEXT = TokenKey(RSAKey.generate_key(2048)), TokenKey(RSAKey.generate_key(2048))


class Watch:
    """A clock that a test moves."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def issuer() -> Iterator[CiIssuer]:
    with CiIssuer(KEY).serving() as serving:
        yield serving


async def test_a_storm_of_unknown_keys_asks_the_issuer_once(issuer: CiIssuer) -> None:
    watch = Watch()
    keys = RemoteKeys(issuer.url, None, now=watch)

    assert await keys.find(KEY.key_id) is not None
    for number in range(100):
        assert await keys.find(f"unknown-{number}") is None
    assert issuer.asked_for_keys == 1
    watch.seconds += REFRESH_PAUSE_SECONDS + 1
    for number in range(100):
        assert await keys.find(f"unknown-{number}") is None
    assert issuer.asked_for_keys == 2


async def test_a_new_key_is_found_and_a_withdrawn_one_is_forgotten(issuer: CiIssuer) -> None:
    watch = Watch()
    keys = RemoteKeys(issuer.url, f"{issuer.url}/jwks", now=watch)
    assert await keys.find(KEY.key_id) is not None

    issuer.keys = NEXT.jwks()
    watch.seconds += FRESH_SECONDS - 1
    assert await keys.find(KEY.key_id) is not None
    watch.seconds += 2

    assert await keys.find(KEY.key_id) is None
    assert await keys.find(NEXT.key_id) is not None
    assert issuer.asked_for_keys == 2


async def test_an_issuer_that_fails_keeps_its_keys_and_is_not_pestered(issuer: CiIssuer) -> None:
    watch = Watch()
    keys = RemoteKeys(issuer.url, None, now=watch)
    await keys.find(KEY.key_id)
    issuer.keys = None
    watch.seconds += FRESH_SECONDS + 1

    for _ in range(20):
        assert await keys.find(KEY.key_id) is not None
    assert issuer.asked_for_keys == 2


@pytest.mark.parametrize("keys", [{"keys": "x" * MAX_DOCUMENT_BYTES}, {"keys": [{}]}, [], "x", {}])
async def test_a_document_that_holds_no_keys_is_no_answer(issuer: CiIssuer, keys: object) -> None:
    issuer.keys = keys

    with pytest.raises(UnavailableError):
        await RemoteKeys(issuer.url, None).find(KEY.key_id)


async def test_an_address_that_is_none_is_no_answer() -> None:
    """A discovery document may name anything."""
    with pytest.raises(UnavailableError):
        await RemoteKeys("https://issuer.example", "https://[").find(KEY.key_id)


async def test_an_issuer_that_says_it_is_another_is_not_believed(issuer: CiIssuer) -> None:
    there = issuer.url
    issuer.url = "https://other.example"

    with pytest.raises(UnavailableError):
        await RemoteKeys(there, None).find(KEY.key_id)
    assert issuer.asked_for_keys == 0
