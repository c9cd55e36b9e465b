"""Key files that many processes make at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from gatekeeper.kernel.errors import InputError
from gatekeeper.platform.crypto.files import write_once
from gatekeeper.platform.crypto.keys import TokenKey
from gatekeeper.platform.crypto.sealing import SealingKey
from gatekeeper.platform.crypto.signing import SigningKey

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", [SigningKey, SealingKey, TokenKey])
def test_all_who_start_at_once_have_the_one_key(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "key.jwk"
    with ThreadPoolExecutor(8) as many:
        list(many.map(lambda _: kind.load_or_create(path), range(8)))

    assert [file.name for file in tmp_path.iterdir()] == ["key.jwk"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_who_comes_second_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "key.jwk"

    write_once(path, "first")
    write_once(path, "second")

    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [SigningKey, SealingKey, TokenKey])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_reach_is_not_used(tmp_path: Path, kind: Any, mode: int) -> None:
    path = tmp_path / "key.jwk"
    kind.load_or_create(path)
    path.chmod(mode)

    with pytest.raises(InputError, match="others can read"):
        kind.load_or_create(path)
