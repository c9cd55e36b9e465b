"""Tokens that must not be believed, each for its own reason."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from factories.tokens import BAD, ISSUER, KEY, NOW, OTHER, OTHER_KEY, Clock, token
from gatekeeper.kernel.errors import InputError, Refusal, UnavailableError
from gatekeeper.kernel.identity import Principal
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.development import DevelopmentIssuer, DevelopmentUser
from gatekeeper.platform.oidc.keysource import RemoteKeys, StaticKeys
from gatekeeper.platform.oidc.verifier import IssuerSettings, TokenVerifier
from gatekeeper.platform.random import SystemRandom


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier(
        {
            ISSUER: (
                IssuerSettings(issuer=ISSUER, audience="gatekeeper"),
                StaticKeys(KEY.public()),
            ),
            OTHER: (
                IssuerSettings(issuer=OTHER, audience="gatekeeper"),
                StaticKeys(OTHER_KEY.public()),
            ),
        },
        clock=Clock(),
    )


async def test_a_good_token_names_its_principal(verifier: TokenVerifier) -> None:
    found = await verifier.verify(token())

    assert isinstance(found, Principal)
    assert (found.key, found.email, found.groups) == (f"{ISSUER}#dana", "d@x", frozenset({"eng"}))


async def test_an_address_the_issuer_did_not_verify_is_not_believed(
    verifier: TokenVerifier,
) -> None:
    found = await verifier.verify(token(email_verified=False))

    assert isinstance(found, Principal)
    assert found.email is None


@pytest.mark.parametrize(("make", "why"), BAD)
async def test_a_bad_token_is_refused(
    verifier: TokenVerifier, make: Callable[[], str], why: str
) -> None:
    text = make()

    found = await verifier.verify(text)

    assert isinstance(found, Refusal)
    assert why in found.detail
    assert not text or text not in found.detail


async def test_keys_that_were_never_fetched_are_no_answer() -> None:
    with pytest.raises(UnavailableError):
        await RemoteKeys("http://127.0.0.1:9", None).find("x")


@pytest.mark.parametrize("address", ["http://issuer.example", "ftp://x", "issuer"])
def test_an_issuer_that_anyone_could_impersonate_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        IssuerSettings(issuer=address, audience="gatekeeper")


def development(public_url: str, clock: Clock | None = None) -> DevelopmentIssuer:
    return DevelopmentIssuer(
        public_url=public_url, users=[DevelopmentUser(name="dana", email="d@x", groups=("eng",))],
        key=KEY, clock=clock or Clock(), random=SystemRandom(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "url", ["https://gatekeeper.example", "http://10.0.0.1", "https://127.0.0.1"]
)
def test_the_development_issuer_runs_on_loopback_alone(url: str) -> None:
    with pytest.raises(InputError, match="loopback"):
        development(url)


def test_a_device_waits_until_its_code_is_confirmed_and_is_answered_once() -> None:
    issuer = development("http://127.0.0.1:4000")
    begun = issuer.begin()

    assert issuer.redeem(begun["device_code"]) == {"error": "authorization_pending"}
    assert not issuer.confirm("WRONG-CODE", "dana", approved=True)
    assert not issuer.confirm(begun["user_code"], "mallory", approved=True)
    assert issuer.confirm(begun["user_code"].lower(), "dana", approved=True)
    tokens = issuer.redeem(begun["device_code"])
    assert "id_token" in tokens
    assert issuer.redeem(begun["device_code"]) == {"error": "expired_token"}
    fresh = issuer.refresh(tokens["refresh_token"])
    assert "id_token" in fresh
    assert issuer.refresh(tokens["refresh_token"]) == {"error": "invalid_grant"}


def test_a_denied_and_an_old_code_give_nothing() -> None:
    clock = Clock()
    issuer = development("http://127.0.0.1:4000", clock)
    denied, old = issuer.begin(), issuer.begin()
    issuer.confirm(denied["user_code"], "dana", approved=False)

    assert issuer.redeem(denied["device_code"]) == {"error": "access_denied"}
    clock.at = NOW + timedelta(minutes=6)
    assert issuer.redeem(old["device_code"]) == {"error": "expired_token"}


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"
    made = TokenKey.load_or_create(path)

    assert TokenKey.load_or_create(path).key_id == made.key_id
    path.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        TokenKey.load_or_create(path)
