"""Where tokens are kept: the system's keyring, a file, and what happens when they fail."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail

from gatekeeper.client import keyring as ours
from gatekeeper.client import tokens
from gatekeeper.client.tokens import Tokens, claims_of
from gatekeeper.kernel.errors import InputError, UnavailableError
from gatekeeper.kernel.secret import Secret

SERVER = "https://gatekeeper.example"
MADE = Tokens(
    identity=Secret("the-identity"), refresh=Secret("the-refresh"),
    token_endpoint="https://issuer.example/token", client_id="gk", expires_at=2e9,
)  # fmt: skip


class InMemory(KeyringBackend):
    """A keyring like any other, that forgets when the test ends."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


class Locked(InMemory):
    """Refuses everything."""

    def get_password(self, service: str, username: str) -> str | None:
        msg = "locked: the-refresh"
        raise RuntimeError(msg)

    set_password = get_password  # type: ignore[assignment]


class Hung(InMemory):
    """Waits for somebody who never comes, until the test lets it go."""

    let_go = threading.Event()

    def __init__(self) -> None:
        super().__init__()
        self.let_go.clear()

    def get_password(self, service: str, username: str) -> str | None:
        self.let_go.wait()
        return None

    set_password = get_password  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _keyring_of_before() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    Hung.let_go.set()
    keyring.set_keyring(before)


def files(folder: Path) -> str:
    return "".join(p.read_text() for p in folder.rglob("*") if p.is_file())


def test_tokens_are_kept_in_the_keyring_where_there_is_one(tmp_path: Path) -> None:
    there = InMemory()
    keyring.set_keyring(there)

    assert tokens.save(tmp_path, SERVER, MADE)
    assert tokens.load(tmp_path, SERVER) == MADE
    assert "the-" not in files(tmp_path)
    assert tokens.forget(tmp_path, SERVER)
    assert there.entries == {}
    assert tokens.load(tmp_path, SERVER) is None
    assert not tokens.forget(tmp_path, SERVER)


def test_two_homes_are_two_logins_in_one_keyring(tmp_path: Path) -> None:
    keyring.set_keyring(InMemory())
    tokens.save(tmp_path / "one", SERVER, MADE)

    assert tokens.load(tmp_path / "two", SERVER) is None


@pytest.mark.parametrize("backend", [fail.Keyring, Locked])
def test_without_a_keyring_that_takes_them_they_are_in_a_private_file(
    tmp_path: Path, backend: type[KeyringBackend]
) -> None:
    keyring.set_keyring(backend())

    assert not tokens.save(tmp_path, SERVER, MADE)
    assert tokens.load(tmp_path, SERVER) == MADE
    (path,) = (tmp_path / "tokens").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    with pytest.raises(InputError, match="read by others"):
        tokens.load(tmp_path, SERVER)


def test_a_hung_keyring_hangs_nobody() -> None:
    keyring.set_keyring(Hung())

    assert not ours.save("a", "text", patience=0.05)
    with pytest.raises(UnavailableError, match="is it locked"):
        ours.load("a", patience=0.05)


def test_what_a_keyring_says_when_it_refuses_is_not_repeated() -> None:
    keyring.set_keyring(Locked())

    with pytest.raises(UnavailableError) as refused:
        ours.load("a")
    assert "the-refresh" not in str(refused.value)


def test_a_process_ends_although_its_keyring_hangs() -> None:
    program = (
        "import keyring, threading\n"
        "from test_client_tokens import Hung\n"
        "from gatekeeper.client import keyring as ours\n"
        "keyring.set_keyring(Hung())\n"
        "print(ours.save('a', 'text', patience=0.05))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip

    assert done.stdout == "False\n"


@pytest.mark.parametrize("text", ["", "{}", '{"identity": 1}', '{"identity": "a", "refresh": "b"}'])
def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, text: str) -> None:
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    tokens.save(tmp_path, SERVER, MADE)
    (path,) = (tmp_path / "tokens").iterdir()
    path.write_text(text)

    with pytest.raises(InputError, match="gk logout, then gk login"):
        tokens.load(tmp_path, SERVER)


def test_one_process_renews_while_the_others_wait(tmp_path: Path) -> None:
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    tokens.save(tmp_path, SERVER, MADE)
    order: list[str] = []

    def second() -> None:
        with tokens.renewing(tmp_path, SERVER):
            order.append("second")

    with tokens.renewing(tmp_path, SERVER):
        other = threading.Thread(target=second)
        other.start()
        other.join(timeout=0.1)
        order.append("first")
    other.join(timeout=30)

    assert order == ["first", "second"]


@pytest.mark.parametrize("claims", ["x", "[]", "{}", '{"exp": "never"}', '{"exp": null}'])
def test_a_token_without_an_end_is_none(claims: str) -> None:
    part = base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=")
    with pytest.raises(InputError, match="a token that is none"):
        claims_of(f"e30.{part}.x")


def test_the_claims_of_a_token_are_read() -> None:
    part = base64.urlsafe_b64encode(json.dumps({"exp": 7, "nonce": "n"}).encode()).decode()

    assert claims_of(f"e30.{part.rstrip('=')}.x") == {"exp": 7, "nonce": "n"}
