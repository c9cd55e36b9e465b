import base64
import hashlib
import hmac

import pytest

from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret

# The example of RFC 7677, section 3: user "user", password "pencil".
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
AUTH_MESSAGE = (
    "n=user,r=rOprNGfwEbeRWgbNEkqO,"
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
SERVER_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
CLIENT_PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


def test_agrees_with_the_example_of_rfc_7677() -> None:
    verifier = scram.make_verifier(Secret("pencil"), SALT, 4096)
    stored, server = (base64.b64decode(part) for part in verifier.split("$")[2].split(":"))

    signature = hmac.digest(server, AUTH_MESSAGE.encode(), "sha256")
    assert base64.b64encode(signature).decode() == SERVER_SIGNATURE

    client_signature = hmac.digest(stored, AUTH_MESSAGE.encode(), "sha256")
    proof = base64.b64decode(CLIENT_PROOF)
    client_key = bytes(a ^ b for a, b in zip(proof, client_signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def test_a_verifier_has_the_shape_that_is_checked() -> None:
    password = scram.make_password(bytes(scram.PASSWORD_BYTES))

    assert scram.is_verifier(scram.make_verifier(password, bytes(scram.SALT_BYTES)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "md5" + "0" * 32,
        scram.make_verifier(Secret("x"), b"s" * 16) + "\n",
        scram.make_verifier(Secret("x"), b"s" * 16).replace("$4096", "$0"),
        scram.make_verifier(Secret("x"), b"s" * 16).replace("$4096", "$99999999"),
        scram.make_verifier(Secret("x"), b"s" * 16).replace("$4096", "$65537"),
        scram.make_verifier(Secret("x"), b"s" * 15),
        "SCRAM-SHA-256$" + "x" * 400,
    ],
)
def test_nothing_else_passes_for_one(text: str) -> None:
    assert not scram.is_verifier(text)


def test_a_password_needs_its_randomness() -> None:
    with pytest.raises(ValueError, match="random bytes"):
        scram.make_password(b"short")
