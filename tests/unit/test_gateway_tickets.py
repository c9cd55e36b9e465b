"""Tickets: what is signed, typed and timed as ours is believed, and nothing else."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from factories.gateways import ISSUER, KEY, claims, new_instance, new_terminal, sign
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.oidc.keysource import StaticKeys
from gatekeeper.terminals.gateway.tickets import TicketVerifier
from gatekeeper.terminals.protocol import ticket as tickets
from gatekeeper.terminals.protocol.handshake import Refused
from gatekeeper.terminals.protocol.ticket import TicketClaims

OTHER: Final = TokenKey(RSAKey.generate_key(2048))
TERMINAL, INSTANCE = new_terminal(), new_instance()


class Clock:
    def __init__(self) -> None:
        self.at = datetime.now(UTC)  # noqa: TID251  # tickets of the factory are of now

    def now(self) -> datetime:
        return self.at


def verifier(clock: Clock | None = None) -> TicketVerifier:
    return TicketVerifier(StaticKeys(KEY.public()), issuer=ISSUER, clock=clock or Clock())


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def said(**changes: Any) -> dict[str, Any]:
    return claims(TERMINAL, INSTANCE, **changes)


async def test_a_ticket_of_a_link_is_over_with_the_link() -> None:
    clock = Clock()
    until = int(clock.at.timestamp()) + 20
    given = sign(said(until=until))
    assert isinstance(await verifier(clock).verify(given), TicketClaims)
    clock.at += timedelta(seconds=21)
    assert isinstance(await verifier(clock).verify(given), Refused)
    assert isinstance(await verifier().verify(sign(said(until="never"))), Refused)


HEADER: Final = {"alg": "RS256", "typ": tickets.TYPE, "kid": KEY.key_id}


def forged(header: dict[str, Any], signature: bytes = b"x" * 256) -> str:
    return f"{encoded(header)}.{encoded(said())}.{encoded(signature)}"


def hs256_with_the_public_key() -> str:
    signed = f"{encoded(HEADER | {'alg': 'HS256'})}.{encoded(said())}"
    mac = hmac.digest(KEY.private.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{encoded(mac)}"


def raw_signed(
    algorithm_name: str,
    pad: Any,
    algorithm: hashes.HashAlgorithm | None = None,
    **changes: Any,
) -> str:
    """Sign with our key, in any way."""
    text = f"{encoded(HEADER | {'alg': algorithm_name})}.{encoded(said(**changes))}"
    private: Any = KEY.private.private_key
    return f"{text}.{encoded(private.sign(text.encode(), pad, algorithm or hashes.SHA256()))}"


def embedded_key() -> str:
    return sign(said(), OTHER, kid=OTHER.key_id, jwk=OTHER.private.as_dict(private=False))


def of_an_elliptic_curve(name: str = "RS256") -> str:
    key = ECKey.generate_key("P-256")
    text = jwt.encode({"alg": "ES256", "typ": tickets.TYPE, "kid": KEY.key_id}, said(), key)
    return f"{encoded(HEADER | {'alg': name})}.{text.split('.', 1)[1]}"


def altered() -> str:
    head, body, signature = sign(said()).split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{encoded(changed | {'mode': 'moderate'})}.{signature}"


TRICKS: Final[list[tuple[str, Callable[[], str]]]] = [
    ("nothing", lambda: ""),
    ("no token", lambda: "a.b"),
    ("five parts", lambda: sign(said()) + ".a.b"),
    ("alg none", lambda: forged(HEADER | {"alg": "none"}, b"")),
    ("alg none, no signature", lambda: forged(HEADER | {"alg": "none"}).rpartition(".")[0] + "."),
    ("alg None", lambda: forged(HEADER | {"alg": None})),
    ("HS256 with the public key", hs256_with_the_public_key),
    ("an elliptic curve's signature", of_an_elliptic_curve),
    ("ES256", lambda: of_an_elliptic_curve("ES256")),
    ("PS256", lambda: raw_signed("PS256", padding.PSS(padding.MGF1(hashes.SHA256()), 32))),
    ("RS512", lambda: raw_signed("RS512", padding.PKCS1v15(), hashes.SHA512())),
    ("the key of somebody else", lambda: sign(said(), OTHER, kid=KEY.key_id)),
    ("a key nobody published", lambda: sign(said(), OTHER)),
    ("no kid", lambda: forged({"alg": "RS256", "typ": tickets.TYPE})),
    ("a kid that is a list", lambda: forged(HEADER | {"kid": ["x"]})),
    ("a long kid", lambda: forged(HEADER | {"kid": "k" * 200})),
    ("its own key in jwk", embedded_key),
    ("jwk beside a good signature", lambda: sign(said(), jwk={"kty": "RSA"})),
    ("jku", lambda: sign(said(), jku="https://evil.example/jwks")),
    ("x5c", lambda: sign(said(), x5c=["AA=="])),
    ("x5u", lambda: sign(said(), x5u="https://evil.example/x")),
    ("zip", lambda: f"{encoded(HEADER | {'zip': 'DEF'})}.{sign(said()).split('.', 1)[1]}"),
    ("crit", lambda: f"{encoded(HEADER | {'crit': ['b64'], 'b64': False})}.{'a'}.{'b'}"),
    ("another type", lambda: sign(said(), typ="JWT")),
    ("altered claims", altered),
    ("an empty signature", lambda: forged(HEADER, b"")),
    ("a signature of zeros", lambda: forged(HEADER, bytes(256))),
    ("a signature of ones", lambda: forged(HEADER, b"\xff" * 256)),
    ("too large", lambda: sign(said(name="x" * 5_000))),
    ("deep JSON", lambda: f"{encoded(b'[' * 2_000)}.{encoded(b'{}')}.{encoded(b'x')}"),
    ("a header that is no object", lambda: f"{encoded([])}.{encoded(said())}.{encoded(b'x')}"),
    ("padding", lambda: sign(said()) + "="),
    ("a newline", lambda: sign(said()) + "\n"),
]
NOW: Final = int(datetime.now(UTC).timestamp())  # noqa: TID251
WRONG: Final[list[dict[str, Any]]] = [
    {"iss": "https://other.example"}, {"iss": None}, {"aud": "gatekeeper"}, {"aud": None},
    {"aud": [tickets.AUDIENCE]}, {"exp": NOW - 60, "iat": NOW - 90}, {"exp": NOW + 601, "iat": NOW},
    {"exp": None}, {"exp": str(NOW + 60)}, {"exp": NOW + 60.5}, {"exp": True},
    {"iat": NOW + 60, "exp": NOW + 90}, {"iat": None}, {"iat": NOW, "exp": NOW},
    {"exp": 10**400}, {"nbf": NOW - 10}, {"sub": ""}, {"sub": "s" * 1_025}, {"sub": 7},
    {"sid": "ses_" + "a" * 20}, {"sid": TERMINAL + "\n"}, {"sid": None}, {"ins": "x"},
    {"mode": "own"}, {"mode": ["write"]}, {"jti": ""}, {"jti": "a b"}, {"jti": "j" * 129},
    {"jti": None}, {"epoch": ""}, {"epoch": None}, {"origin": 7}, {"name": None},
]  # fmt: skip


async def test_a_good_ticket_is_believed_word_for_word() -> None:
    found = await verifier().verify(sign(said(origin="https://a.example", name="é" * 200)))
    assert isinstance(found, TicketClaims)
    assert (found.terminal, found.instance) == (TERMINAL, INSTANCE)
    assert (found.mode, found.origin) == ("write", "https://a.example")
    assert found.name == "é" * 128


@pytest.mark.parametrize("make", [make for _, make in TRICKS], ids=[name for name, _ in TRICKS])
async def test_no_trick_makes_a_ticket(make: Callable[[], str]) -> None:
    found = await verifier().verify(make())
    assert isinstance(found, Refused)
    assert (found.status, found.code) == (401, "TICKET_REFUSED")


@pytest.mark.parametrize(
    "changes", WRONG, ids=["-".join(wrong) + str(number) for number, wrong in enumerate(WRONG)]
)
async def test_signed_claims_that_are_no_tickets_are_refused(changes: dict[str, Any]) -> None:
    if "exp" not in changes and "iat" not in changes:
        changes = changes | {"iat": NOW, "exp": NOW + 60}
    text = raw_signed("RS256", padding.PKCS1v15(), **changes)
    assert isinstance(await verifier().verify(text), Refused)


async def test_time_is_kept_within_a_small_leeway() -> None:
    clock = Clock()
    text = sign(said())
    for seconds, believed in ((-4, True), (-7, False), (63, True), (66, False)):
        clock.at = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)
        text = sign(said(iat=NOW, exp=NOW + 60))
        assert isinstance(await verifier(clock).verify(text), TicketClaims) is believed, seconds


class OneKey:
    """A source that has one key, whatever it is."""

    def __init__(self, raw: object) -> None:
        self.raw_value = raw

    async def find(self, _key_id: str) -> Any:
        return self


async def test_small_keys_and_keys_of_other_kinds_are_not_used() -> None:
    small = rsa.generate_private_key(65_537, 1_024)  # noqa: S505
    text = f"{encoded(HEADER)}.{encoded(said())}"
    signature = small.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    for raw in (small.public_key(), ECKey.generate_key("P-256").raw_value, b"secret"):
        source = TicketVerifier(OneKey(raw), issuer=ISSUER, clock=Clock())
        assert isinstance(await source.verify(f"{text}.{encoded(signature)}"), Refused)


@given(st.integers(0, 5_000), st.binary(min_size=1, max_size=3))
async def test_a_ticket_that_was_touched_is_refused(at: int, put: bytes) -> None:
    good = sign(said())
    place = at % len(good)
    text = good[:place] + put.decode("latin-1") + good[place + len(put) :]
    head, _, signature = text.rpartition(".")
    # The last character of a signature has bits that no decoder looks at.
    same = (head, signature[:-1]) == (good.rpartition(".")[0], good.rpartition(".")[2][:-1])
    found = await verifier().verify(text)
    assert isinstance(found, Refused) or same
