"""Tokens of the issuers of a configuration: verified once, remembered, never beyond their end."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import Key

from factories.tokens import BAD, ISSUER, KEY, NOW, OTHER, OTHER_KEY, SECONDS, Clock, token
from gatekeeper.forwardauth.adapters import tokens as adapter
from gatekeeper.forwardauth.adapters.tokens import REMEMBERED_SECONDS, VerifiedTokens
from gatekeeper.forwardauth.config.server import Issuer
from gatekeeper.forwardauth.model import Rejected
from gatekeeper.kernel.errors import UnavailableError
from gatekeeper.platform.oidc.keysource import StaticKeys
from gatekeeper.platform.oidc.verifier import LEEWAY_SECONDS, MAX_TOKEN_CHARS

ISSUERS = {
    "main": Issuer(issuer=ISSUER, audience="gatekeeper"),
    "other": Issuer(issuer=OTHER, audience="gatekeeper"),
    "narrow": Issuer(issuer=ISSUER, audience="another"),
}


class Keys:
    """Counts how often a key is asked for: once for each token that is verified."""

    def __init__(self, issuer: str, jwks_uri: str | None) -> None:
        self._keys = StaticKeys((KEY if issuer == ISSUER else OTHER_KEY).public())

    async def find(self, key_id: str) -> Key | None:
        Keys.asked += 1
        return await self._keys.find(key_id)

    asked = 0


class Gone:
    def __init__(self, issuer: str, jwks_uri: str | None) -> None:
        pass

    async def find(self, key_id: str) -> Key | None:
        msg = "the issuer's keys cannot be fetched"
        raise UnavailableError(msg)


def verifying(clock: Clock | None = None) -> VerifiedTokens:
    Keys.asked = 0
    return VerifiedTokens(ISSUERS, clock=clock or Clock(), keys=Keys)


async def test_a_good_token_gives_its_claims() -> None:
    found = await verifying().verify("main", token(role="admin"))

    assert isinstance(found, Mapping)
    assert (found["sub"], found["role"]) == ("dana", "admin")


@pytest.mark.parametrize("make", [make for make, _ in BAD])
async def test_a_bad_token_is_rejected_each_time(make: Callable[[], str]) -> None:
    tokens, text = verifying(), make()

    for _ in range(2):
        found = await tokens.verify("main", text)
        assert isinstance(found, Rejected)
        assert found.status == 401
        assert not text or text not in found.reason


async def test_a_token_is_believed_for_its_own_issuer_and_audience_alone() -> None:
    tokens, mine = verifying(), token()
    assert isinstance(await tokens.verify("main", mine), Mapping)

    for name in ("other", "narrow", "nobody"):
        assert isinstance(await tokens.verify(name, mine), Rejected)
    assert isinstance(await tokens.verify("other", token(OTHER_KEY, iss=OTHER)), Mapping)


async def test_what_no_token_can_be_is_rejected_before_it_is_looked_at() -> None:
    tokens = verifying()

    for text in ("x" * (MAX_TOKEN_CHARS + 1), "\ud800.a.b", "\x00"):
        assert isinstance(await tokens.verify("main", text), Rejected)


async def test_keys_that_cannot_be_had_are_a_reason_and_no_error() -> None:
    found = await VerifiedTokens(ISSUERS, clock=Clock(), keys=Gone).verify("main", token())

    assert found == Rejected(503, "the issuer's keys cannot be fetched")


async def test_a_token_is_verified_once_while_it_is_remembered() -> None:
    clock = Clock()
    tokens, mine = verifying(clock), token()

    for _ in range(5):
        assert isinstance(await tokens.verify("main", mine), Mapping)
    assert Keys.asked == 1
    clock.at += timedelta(seconds=REMEMBERED_SECONDS)
    assert isinstance(await tokens.verify("main", mine), Mapping)
    assert Keys.asked == 2


async def test_a_token_that_differs_in_one_character_is_not_remembered() -> None:
    tokens, mine = verifying(), token()
    assert isinstance(await tokens.verify("main", mine), Mapping)

    assert isinstance(await tokens.verify("main", mine + "A"), Rejected)
    assert isinstance(await tokens.verify("main", mine[:-1]), Rejected)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "MAX_REMEMBERED", 2)
    tokens = verifying()
    first, second, third = (token(sub=name) for name in ("one", "two", "three"))

    for text in (first, second, first, third, first):
        await tokens.verify("main", text)
    assert Keys.asked == 3
    await tokens.verify("main", second)
    assert Keys.asked == 4


@given(
    lives=st.integers(min_value=-200, max_value=200),
    asked_at=st.lists(st.floats(min_value=0, max_value=400), min_size=1, max_size=4),
)
def test_nothing_is_remembered_beyond_its_end(lives: int, asked_at: list[float]) -> None:
    """Whenever it is asked, the answer is what a verifier that remembers nothing would give."""
    mine, clock = token(exp=SECONDS + lives), Clock()
    remembering = verifying(clock)

    async def ask() -> None:
        for after in sorted(asked_at):
            clock.at = NOW + timedelta(seconds=after)
            before = Keys.asked
            found = await remembering.verify("main", mine)
            assert isinstance(found, Rejected) is (after > lives + LEEWAY_SECONDS)
            assert after < lives or Keys.asked == before + 1

    asyncio.run(ask())


async def test_an_issuer_that_anyone_could_impersonate_is_no_issuer() -> None:
    """Read from a configuration or not."""
    with pytest.raises(ValueError, match="https"):
        Issuer(issuer="http://issuer.example", audience="x")
    unread = Issuer.model_construct(
        issuer="http://issuer.example", audience="x", algorithms=["RS256"], jwks_uri=None
    )
    with pytest.raises(ValueError, match="https"):
        VerifiedTokens({"x": unread}, clock=Clock())
