"""Key files that several processes make at once, and that a killed one has left."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from gatekeeper.platform.crypto.files import read_or_make
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.crypto.signing import SigningKey

AT_ONCE = 8


def test_of_many_that_make_a_file_at_once_one_wins_and_all_read_it(tmp_path: Path) -> None:
    together = Barrier(AT_ONCE)

    def make(number: int) -> str:
        together.wait()
        return str(number)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        read = list(
            threads.map(lambda n: read_or_make(tmp_path / "key", lambda: make(n)), range(AT_ONCE))
        )

    assert len(set(read)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_file_that_could_not_be_made_is_not_there(tmp_path: Path) -> None:
    def fail() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_or_make(tmp_path / "key", fail)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("load", "public"),
    [
        (SigningKey.load_or_create, SigningKey.public_jwk),
        (SealingKey.load_or_create, lambda key: key.public_key),
        (TokenKey.load_or_create, TokenKey.jwks),
    ],
)
def test_a_key_is_the_same_when_it_is_read_again_and_is_its_owners_alone(
    tmp_path: Path, load: Callable[[Path], Any], public: Callable[[Any], object]
) -> None:
    path = tmp_path / "key"

    assert public(load(path)) == public(load(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
